"""What is asked of a plan: the load, the fleet, and what callers must get."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from miao_client.bench.loads import Arrival
from miao_client.bench.settings import Slo
from miao_client.bench.workload import seeded
from miao_client.plan.autoscaling import Autoscaling
from miao_client.plan.calibration import Calibration
from miao_client.plan.errors import PlanError
from miao_client.plan.fleet import Fleet, FleetSettings
from miao_client.plan.load import Pairs, Profile
from miao_client.plan.outcome import Outcome
from miao_client.plan.request import Request

_NOTHING_ASKED = Slo()
_MOST_SECONDS = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Load:
    """What comes: a rate over time, or a trace.

    cached_share: of each prompt, found in the prefix cache; it saves computing, not memory.
    """

    profile: Profile
    pairs: Pairs
    seconds: float
    trace: tuple[Arrival, ...] = ()
    cached_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.seconds <= _MOST_SECONDS:
            raise PlanError(
                f"--seconds must be above 0 and at most {_MOST_SECONDS:,.0f}, not {self.seconds:g}."
            )
        if not 0 < self.profile.peak <= 1e7:
            raise PlanError(
                "--rate must be above 0 and at most 10,000,000 requests a second, "
                f"not {self.profile.peak:g}."
            )
        if not 0 <= self.cached_share < 1:
            raise PlanError(
                f"--cached-share must be at least 0 and below 1, not {self.cached_share:g}."
            )

    @property
    def expected_requests(self) -> float:
        """How many come, on average."""
        if self.trace:
            return len(self.trace)
        points = [(0.0, self.profile.rate(0.0)), *self.profile.points]
        points.append((self.seconds, self.profile.rate(self.seconds)))
        kept = sorted(point for point in points if point[0] <= self.seconds)
        pairs = itertools.pairwise(kept)
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)

    def scaled(self, factor: float) -> Load:
        """So many times as much at once."""
        return replace(self, profile=self.profile.scaled(factor))

    def requests(self, seed: int, block_size: int) -> Iterator[Request]:
        """The requests in their order; the seed decides all of it."""
        random = seeded(seed, "lengths")
        if self.trace:
            arrivals = iter(self.trace)
        else:
            times = self.profile.arrivals(seeded(seed, "arrivals"), self.seconds)
            arrivals = map(Arrival, times)
        for number, arrival in enumerate(arrivals):
            prompt, output = self.pairs(random)
            prompt, output = arrival.input_tokens or prompt, arrival.output_tokens or output
            cached = self.cached_of(prompt, block_size)
            yield Request(number, arrival.at, prompt, output, cached)

    def cached_of(self, prompt_tokens: int, block_size: int) -> int:
        """Of a prompt, the tokens that are found: whole blocks."""
        return int(prompt_tokens * self.cached_share / block_size) * block_size


@dataclass(frozen=True, slots=True)
class Goal:
    """What callers must get.

    slo: limits in seconds; each is met where the figure's percentile is within it.
    good_share: of requests that must meet all limits at once, if that is asked too.
    """

    slo: Slo = _NOTHING_ASKED
    percentile: float = 99.0
    good_share: float | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 < self.percentile < 100:
            raise PlanError(f"--percentile must be between 0 and 100, not {self.percentile:g}.")
        if self.good_share is not None and not 0 < self.good_share <= 1:
            raise PlanError(f"--good-share must be above 0 and at most 1, not {self.good_share:g}.")
        for name, limit in self.slo.stated.items():
            if not 0 < limit < math.inf:
                raise PlanError(f"--slo-{name} must be a number of seconds above 0, not {limit:g}.")

    def misses(self, outcome: Outcome) -> list[str]:
        """What is not met, in words; empty where all is."""
        if not outcome.completed:
            return ["nothing completed"]
        found = []
        for name, limit in self.slo.stated.items():
            value = getattr(outcome, name).percentile(self.percentile)
            if value > limit:
                found.append(f"{name} p{self.percentile:g} {value:.3f} s")
        # Who brings no answer counts as beyond every limit.
        most_failed = 1 - self.percentile / 100
        if outcome.arrived and outcome.failed > most_failed * outcome.arrived:
            found.append(f"{outcome.failed / outcome.arrived:.1%} failed")
        if self.good_share is not None and outcome.good_share < self.good_share:
            found.append(f"{outcome.good_share:.1%} good")
        return found


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a fleet that stands for all of it: so many of its workers, with their load.

    In a larger fleet chance evens out more, so waits for a free row are shorter there than in
    its slice: a slice errs on the side of too many workers.
    """

    workers: int
    of: int

    @property
    def factor(self) -> float:
        """The part's share."""
        return self.workers / self.of

    @classmethod
    def take(cls, of: int, most: int) -> Slice:
        """At most so many workers."""
        return cls(min(of, most), of)


def simulate(calibration: Calibration, load: Load, settings: FleetSettings, part: Slice) -> Outcome:
    """Run the part of a fleet; `settings` are the whole one's, `part.of` the most workers."""
    factor = part.factor
    limit = settings.backlog_limit
    settings = replace(
        settings,
        workers=max(1, round(settings.workers * factor)) if settings.workers else 0,
        backlog_limit=None if limit is None else max(1, round(limit * factor)),
        autoscaling=_scaled(settings.autoscaling, factor),
    )
    scaled = load.scaled(factor)
    requests = scaled.requests(settings.seed, calibration.limits.block_size)
    seconds = None if load.trace else load.seconds
    return Fleet(calibration, settings, requests, seconds).run()


def _scaled(rule: Autoscaling | None, factor: float) -> Autoscaling | None:
    if rule is None or factor == 1:
        return rule
    least = math.ceil(rule.least * factor)
    return replace(rule, least=least, most=max(1, least, round(rule.most * factor)))
