"""A fleet in simulated time: one queue, workers that claim from it, scale, fail and take over.

Events stand in a heap, the earliest first. Requests come one after the other; each step of
each worker is an event; the rest is rare. Randomness comes from one seed, in a stream of its
own for each purpose, so that two plans differ only by what differs in them.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Any

from miao_client.bench.settings import Slo
from miao_client.bench.workload import seeded
from miao_client.plan.autoscaling import Autoscaler, Autoscaling
from miao_client.plan.calibration import Calibration
from miao_client.plan.errors import PlanError
from miao_client.plan.outcome import Moment, Outcome
from miao_client.plan.request import Request
from miao_client.plan.spread import Spread
from miao_client.plan.step_time import StepClock
from miao_client.plan.worker import Batch, Told

_RENEWALS = 6  # of a lease, in its length
_REAP_SECONDS = 0.4  # between two looks for ended leases, of the whole fleet
_MOMENTS = 240  # that are kept of a run


@dataclass(frozen=True, slots=True)
class Failure:
    """So many workers die at once; others start in their place after a while."""

    at: float
    workers: int = 1
    back_after: float | None = None  # seconds; None: as long as any start; inf: never


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What the fleet is, besides its workers' kind; the defaults are the service's.

    failure_hours: one worker runs so long on average until it dies; None: for ever.
    """

    workers: int
    warmup: float = 0.0  # seconds whose requests are not counted
    backlog_limit: int | None = 1000  # that may wait; None: any number
    queue_timeout: float = 600.0
    lease_seconds: float = 3.0
    drain_seconds: float = 20.0
    failures: tuple[Failure, ...] = ()
    failure_hours: float | None = None
    autoscaling: Autoscaling | None = None
    slo: Slo = field(default_factory=Slo)
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.workers < 0 or (self.workers == 0 and self.autoscaling is None):
            raise PlanError(f"--workers must be at least 1, not {self.workers}.")
        if self.failure_hours is not None and not self.failure_hours > 0:
            raise PlanError(f"--failure-hours must be above 0, not {self.failure_hours:g}.")
        for name in ("warmup", "queue_timeout", "lease_seconds", "drain_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PlanError(f"{name} must be 0 or more, not {getattr(self, name):g}.")


class _State(Enum):
    STARTING = auto()
    READY = auto()
    DRAINING = auto()
    GONE = auto()


@dataclass(slots=True, eq=False)
class _Worker:
    batch: Batch
    born: float
    state: _State = _State.STARTING
    held: int = 0  # claimed and not ended
    place: int = -1  # among those that have room
    is_busy: bool = False
    coming: dict[Request, None] = field(default_factory=dict)  # claimed, not in the engine yet


class Fleet(Told):
    """One run. `requests` are in the order of their arrival.

    on_end: is told of each request that ended, however, and when its caller knows; a closed
        loop's next request is its answer, and has a number below 0.
    """

    def __init__(
        self,
        calibration: Calibration,
        settings: FleetSettings,
        requests: Iterator[Request],
        seconds: float | None = None,
        on_end: Callable[[float], Request | None] = lambda at: None,
    ) -> None:
        """`seconds`: when arrivals end; None: with the last request."""
        self.outcome = Outcome(settings.slo)
        self.delay = calibration.delays.deliver
        self._calibration = calibration
        self._settings = settings
        self._requests = requests
        self._seconds = seconds
        self._on_end = on_end
        self._claims_random = seeded(settings.seed, "claims")
        self._failures_random = seeded(settings.seed, "failures")
        self._scaler = Autoscaler(settings.autoscaling) if settings.autoscaling else None
        self._events: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._numbers = count()
        self._now = 0.0
        self._queue: deque[Request] = deque()
        self._workers: dict[_Worker, None] = {}
        self._with_room: list[_Worker] = []
        self._orphans: list[Request] = []  # whose leases have ended, with nobody to see it
        self._num_made = 0
        self._num_open = 0  # requests that are to come or under way
        self._num_ready = 0
        self._first_arrival: float | None = None
        self._last_end = 0.0
        self._recent = Spread()  # first tokens since the last moment
        self._num_recent = 0
        self._unfit_tokens = min(
            calibration.limits.max_model_length,
            calibration.limits.num_blocks * calibration.limits.block_size,
        )

    def run(self) -> Outcome:
        """Simulate until all requests have ended, or nobody is left to serve them."""
        settings = self._settings
        for _ in range(settings.workers):
            self._ready(self._make())
        for failure in settings.failures:
            self._at(failure.at, self._fail_some, failure)
        if settings.autoscaling is not None:
            self._at(settings.autoscaling.poll_seconds, self._poll, settings.autoscaling)
        if self._seconds is not None:
            self._at(self._seconds / _MOMENTS, self._look, self._seconds / _MOMENTS)
        self._expect_next()
        events, pop = self._events, heapq.heappop
        while events and self._goes_on:
            self._now, _, handle, subject = pop(events)
            handle(subject)
        return self._finish()

    # What callers get

    def began(self, request: Request, now: float) -> None:
        """It has its first token, or its first since it was moved."""
        at = now + self.delay
        if request.said == 1:
            request.first = at
            self._recent.add(at - request.arrived)
            if request.is_counted:
                self.outcome.ttft.add(at - request.arrived)
        else:
            gap = at - request.last
            request.longest_gap = max(request.longest_gap, gap)
            if self._is_counting:
                self.outcome.itl.add(gap)
        if self._is_counting:
            self.outcome.output_in_time += 1

    def gaps(self, seconds: float, count: int) -> None:
        """So many sequences have got a token."""
        if self._is_counting:
            self.outcome.itl.add(seconds, count)
            self.outcome.output_in_time += count

    def ended(self, request: Request, now: float) -> None:
        """It is whole."""
        if request.is_counted:
            self.outcome.note_end(request, now + self.delay)
        if self._is_counting:
            self.outcome.ended_in_time += 1
        self._close(now + self.delay)

    @property
    def _is_counting(self) -> bool:
        if self._now < self._settings.warmup:
            return False
        return self._seconds is None or self._now <= self._seconds

    # Requests

    def _at(self, time: float, handle: Callable[[Any], None], subject: Any) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), handle, subject))

    def _expect_next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._num_open += 1
            self._at(request.arrived, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        if self._first_arrival is None:
            self._first_arrival = self._now
        self._num_recent += 1
        request.is_counted = request.arrived >= self._settings.warmup
        self.outcome.arrived += request.is_counted
        if request.prompt_tokens + request.output_tokens > self._unfit_tokens:
            self.outcome.unfit += request.is_counted
            self._close(self._now)
        else:
            self._at(self._now + self._calibration.delays.accept, self._enqueue, request)
        if request.number >= 0:
            self._expect_next()

    def _enqueue(self, request: Request) -> None:
        limit = self._settings.backlog_limit
        if limit is not None and len(self._queue) >= limit:
            self.outcome.refused += request.is_counted
            self._close(self._now)
            return
        self._queue.append(request)
        self._offer()

    def _offer(self) -> None:
        """Let workers with room claim what waits: whoever comes first, which is chance."""
        while self._queue and self._with_room:
            request = self._queue.popleft()
            if request.claimed is None:
                if self._now - request.arrived > self._settings.queue_timeout:
                    self.outcome.expired += request.is_counted
                    self._close(self._now)
                    continue
                request.claimed = self._now
            room = self._with_room
            worker = room[int(self._claims_random.random() * len(room))]
            request.attempts += 1
            worker.held += 1
            worker.coming[request] = None
            if worker.held >= self._calibration.limits.max_sequences:
                self._has_no_room(worker)
            self._at(self._now + self._calibration.delays.claim, self._receive, (worker, request))

    def _receive(self, pair: tuple[_Worker, Request]) -> None:
        worker, request = pair
        if worker.coming.pop(request, pair) is pair:
            return  # the worker is gone
        worker.batch.waiting.append(request)
        if not worker.is_busy:
            self._begin(worker)

    def _close(self, at: float) -> None:
        self._last_end = max(self._last_end, at)
        following = self._on_end(at)
        self._num_open -= following is None
        if following is not None:
            self._at(following.arrived, self._arrive, following)

    # Steps

    def _begin(self, worker: _Worker) -> None:
        seconds = worker.batch.begin()
        worker.is_busy = seconds is not None
        if seconds is None:
            return
        if self._is_counting:
            self.outcome.busy_seconds += seconds
            self.outcome.row_seconds += seconds * worker.batch.rows
        self._at(self._now + seconds, self._end, worker)

    def _end(self, worker: _Worker) -> None:
        if worker.state is _State.GONE:
            return
        ended = worker.batch.end(self._now)
        self._begin(worker)
        if not ended:
            return
        worker.held -= len(ended)
        if worker.state is _State.READY:
            self._has_room(worker)
            self._offer()
        elif not worker.held:
            self._remove(worker)

    # Workers

    def _make(self) -> _Worker:
        random = seeded(self._settings.seed, "steps", self._num_made)
        self._num_made += 1
        clock = StepClock(self._calibration.step, random)
        worker = _Worker(Batch(self._calibration.limits, clock, self), self._now)
        self._workers[worker] = None
        self.outcome.most_paid = max(self.outcome.most_paid, len(self._workers))
        return worker

    def _start(self, seconds: float) -> None:
        self._at(self._now + seconds, self._ready, self._make())

    def _ready(self, worker: _Worker) -> None:
        if worker.state is not _State.STARTING:
            return  # not wanted any more
        worker.state = _State.READY
        self._num_ready += 1
        self._has_room(worker)
        hours = self._settings.failure_hours
        if hours is not None:
            lives = self._failures_random.expovariate(1 / (3600 * hours))
            self._at(self._now + lives, self._fail_of_age, worker)
        if self._orphans:
            looks_after = self._settings.lease_seconds / _RENEWALS
            self._at(self._now + looks_after, self._reap, None)
        self._offer()

    def _has_room(self, worker: _Worker) -> None:
        if worker.place < 0:
            worker.place = len(self._with_room)
            self._with_room.append(worker)

    def _has_no_room(self, worker: _Worker) -> None:
        if worker.place >= 0:
            last = self._with_room.pop()
            if last is not worker:
                self._with_room[worker.place] = last
                last.place = worker.place
            worker.place = -1

    def _remove(self, worker: _Worker) -> list[Request]:
        """It is gone; returns what it held, with the tokens that are in the journals."""
        self._has_no_room(worker)
        self._num_ready -= worker.state is _State.READY
        worker.state = _State.GONE
        del self._workers[worker]
        self._pay(worker)
        held = [*worker.batch.take_all(), *worker.coming]
        worker.coming = {}
        self.outcome.preemptions += worker.batch.num_preemptions
        return held

    def _pay(self, worker: _Worker) -> None:
        until = self._last_end if self._seconds is None else min(self._now, self._seconds)
        until = until if worker.state is not _State.GONE else min(until, self._now)
        since = max(worker.born, self._settings.warmup)
        self.outcome.worker_seconds += max(0.0, until - since)

    # Failures

    def _fail_some(self, failure: Failure) -> None:
        ready = [worker for worker in self._workers if worker.state is _State.READY]
        for worker in self._failures_random.sample(ready, min(failure.workers, len(ready))):
            self._fail(worker, failure.back_after)

    def _fail_of_age(self, worker: _Worker) -> None:
        if worker.state is _State.READY:
            self._fail(worker, None)

    def _fail(self, worker: _Worker, back_after: float | None) -> None:
        """It dies between two steps; its leases end some time after their last renewal."""
        self.outcome.failures += 1
        held = self._remove(worker)
        draw, lease = self._failures_random.random, self._settings.lease_seconds
        seen = lease - draw() * lease / _RENEWALS + draw() * _REAP_SECONDS
        self._at(self._now + seen, self._lease_over, held)
        back_after = self._calibration.start_seconds if back_after is None else back_after
        if back_after < math.inf:
            self._start(back_after)

    def _lease_over(self, held: list[Request]) -> None:
        self._orphans += held
        if self._num_ready:
            self._reap(None)

    def _reap(self, _: None) -> None:
        """Give them back to the head of the queue, the oldest foremost."""
        orphans, self._orphans = self._orphans, []
        self._hand_over(orphans)

    def _hand_over(self, held: list[Request]) -> None:
        self._queue.extendleft(sorted(held, key=_arrival, reverse=True))
        self._offer()

    # Scaling

    @property
    def _goes_on(self) -> bool:
        return self._num_open > 0 or self._now < (self._seconds or 0.0)

    def _poll(self, rule: Autoscaling) -> None:
        assert self._scaler is not None
        active = [w for w in self._workers if w.state in (_State.STARTING, _State.READY)]
        work = len(self._queue) + sum(worker.held for worker in self._workers)
        wanted = self._scaler.wants(self._now, work, len(active))
        for _ in range(wanted - len(active)):
            self._start(self._calibration.start_seconds)
        # Those that are not ready go first, as Kubernetes has it, then the youngest.
        active.sort(key=lambda worker: (worker.state is _State.READY, -worker.born))
        for worker in active[: max(0, len(active) - wanted)]:
            self._drain(worker)
        self._at(self._now + rule.poll_seconds, self._poll, rule)

    def _drain(self, worker: _Worker) -> None:
        """Claim no more, end what runs within the grace, hand over the rest."""
        if worker.state is _State.STARTING or not worker.held:
            self._remove(worker)
            return
        self._has_no_room(worker)
        self._num_ready -= 1
        worker.state = _State.DRAINING
        self._at(self._now + self._settings.drain_seconds, self._end_drain, worker)

    def _end_drain(self, worker: _Worker) -> None:
        if worker.state is _State.DRAINING:
            self._hand_over(self._remove(worker))

    # The course

    def _look(self, interval: float) -> None:
        recent, self._recent = self._recent, Spread()
        moment = Moment(
            at=self._now,
            rate=self._num_recent / interval,
            ready=self._num_ready,
            paid=len(self._workers),
            waiting=len(self._queue),
            running=sum(worker.held for worker in self._workers),
            ttft_p50=recent.percentile(50) if recent.count else None,
            ttft_p99=recent.percentile(99) if recent.count else None,
        )
        self.outcome.moments.append(moment)
        self._num_recent = 0
        assert self._seconds is not None
        if len(self.outcome.moments) < _MOMENTS:
            self._at(self._now + interval, self._look, interval)

    def _finish(self) -> Outcome:
        outcome = self.outcome
        for worker in list(self._workers):
            self._pay(worker)
            outcome.preemptions += worker.batch.num_preemptions
        begin, end = self._settings.warmup, self._seconds
        if end is None:
            begin, end = max(begin, self._first_arrival or 0.0), self._last_end
        outcome.seconds = max(0.0, end - begin)
        outcome.unfinished = outcome.arrived - outcome.completed - outcome.failed
        return outcome


def _arrival(request: Request) -> float:
    return request.arrived
