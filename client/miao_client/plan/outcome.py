"""What the callers of a simulated fleet got, and what the fleet did for it."""

from __future__ import annotations

from dataclasses import dataclass

from miao_client.bench.settings import Slo
from miao_client.plan.request import Request
from miao_client.plan.spread import Spread


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at one time."""

    at: float
    rate: float  # requests a second, since the moment before
    ready: int  # workers
    paid: int  # workers that are ready, start, or end
    waiting: int
    running: int
    ttft_p50: float | None  # of the first tokens since the moment before
    ttft_p99: float | None


class Outcome:
    """Counts and times, all of requests that came after the warm-up, until arrivals ended."""

    def __init__(self, slo: Slo) -> None:
        self.slo = slo
        self.ttft = Spread()
        self.itl = Spread()
        self.tpot = Spread()
        self.e2e = Spread()
        self.queued = Spread()
        self.silences = Spread()  # of each request that lost its worker, the longest gap
        self.arrived = 0
        self.completed = 0
        self.refused = 0  # the backlog was full
        self.unfit = 0  # longer than the context or the pool
        self.expired = 0  # waited for longer than it may
        self.unfinished = 0  # nobody was left to serve it
        self.good = 0
        self.taken_over = 0
        self.preemptions = 0
        self.prompt_tokens = 0  # of what completed
        self.output_tokens = 0
        self.failures = 0  # workers that died
        self.seconds = 0.0  # that are counted
        self.ended_in_time = 0  # completed while requests still came, and counted
        self.output_in_time = 0  # tokens that callers got in that time
        self.worker_seconds = 0.0  # paid, in that time
        self.busy_seconds = 0.0  # in which an engine computed
        self.row_seconds = 0.0  # sequences that decoded, by the time
        self.most_paid = 0
        self.moments: list[Moment] = []

    def note_end(self, request: Request, at: float) -> None:
        """A request's stream has ended."""
        self.completed += 1
        assert request.first is not None
        assert request.claimed is not None
        e2e, ttft = at - request.arrived, request.first - request.arrived
        self.e2e.add(e2e)
        self.queued.add(request.claimed - request.arrived)
        self.prompt_tokens += request.prompt_tokens
        self.output_tokens += request.output_tokens
        tpot = 0.0
        if request.output_tokens > 1:
            tpot = (at - request.first) / (request.output_tokens - 1)
            self.tpot.add(tpot)
        if request.attempts > 1:
            self.taken_over += 1
            self.silences.add(request.longest_gap)
        self.good += _meets(self.slo, ttft, request.longest_gap, tpot, e2e)

    @property
    def failed(self) -> int:
        """Requests that brought no whole answer."""
        return self.refused + self.unfit + self.expired + self.unfinished

    @property
    def good_share(self) -> float:
        """Of all requests; failed ones are not good."""
        return self.good / self.arrived if self.arrived else 0.0

    @property
    def requests_per_second(self) -> float:
        """Completed ones, while requests came."""
        return self.ended_in_time / self.seconds if self.seconds else 0.0

    @property
    def output_tokens_per_second(self) -> float:
        """As callers got them, while requests came."""
        return self.output_in_time / self.seconds if self.seconds else 0.0

    @property
    def utilization(self) -> float:
        """The share of the paid time in which engines computed."""
        return self.busy_seconds / self.worker_seconds if self.worker_seconds else 0.0

    @property
    def mean_rows(self) -> float:
        """Sequences that decode at once, of a worker that is paid."""
        return self.row_seconds / self.worker_seconds if self.worker_seconds else 0.0


def _meets(slo: Slo, ttft: float, longest_gap: float, tpot: float, e2e: float) -> bool:
    found = {"ttft": ttft, "itl": longest_gap, "tpot": tpot, "e2e": e2e}
    return all(found[name] <= limit for name, limit in slo.stated.items())
