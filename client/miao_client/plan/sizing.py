"""The fewest workers with which a load's callers get what they must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from miao_client.bench.workload import seeded
from miao_client.plan.calibration import Calibration
from miao_client.plan.errors import PlanError
from miao_client.plan.fleet import Failure, Fleet, FleetSettings
from miao_client.plan.outcome import Outcome
from miao_client.plan.question import Goal, Load, Slice, simulate
from miao_client.plan.request import Request

_MOST_WORKERS = 1_000_000
_DOWN = 1.25
_MOST_OVER = 64  # times the workers that a full batch would need; more does not help
_PRECISION = 0.01  # of the number of workers, where there are many
_ROUNDS = 8  # of a full batch, to see what a worker can do; the first is not counted


@dataclass(frozen=True, slots=True)
class Sizing:
    """An answer: so many workers, and what they give."""

    load: Load
    workers: int
    part: Slice
    outcome: Outcome
    capacity: float  # requests a second of one worker whose batch is always full
    after_failure: Outcome | None = None  # the same, while one of the part's workers died


def size(
    calibration: Calibration,
    load: Load,
    goal: Goal,
    settings: FleetSettings,
    most_simulated: int,
    *,
    with_failure: bool = False,
    note: Callable[[int, list[str]], None] = lambda workers, misses: None,
) -> Sizing:
    """Find the fewest workers; `note` is told of each try.

    Raises:
        PlanError: No number of workers meets the goal; the message says what misses it.
    """
    capacity = capacity_of(calibration, load, settings.seed)
    tried: dict[int, Outcome] = {}

    def misses(workers: int) -> list[str]:
        part = Slice.take(workers, workers if load.trace else most_simulated)
        tried[workers] = simulate(calibration, load, replace(settings, workers=workers), part)
        found = goal.misses(tried[workers])
        note(workers, found)
        return found

    least = max(1, int(load.profile.peak / capacity))
    workers = fewest(misses, least)
    part = Slice.take(workers, workers if load.trace else most_simulated)
    after = None
    if with_failure:
        at = settings.warmup + (load.seconds - settings.warmup) / 3
        dying = replace(settings, workers=workers, failures=(Failure(at),))
        after = simulate(calibration, load, dying, part)
    return Sizing(load, workers, part, tried[workers], capacity, after)


def fewest(misses: Callable[[int], list[str]], least: int) -> int:
    """The smallest number, from about `least` up, that misses nothing; to 1 % of it.

    Raises:
        PlanError: None does.
    """
    passing, step = least, max(1, least // 8)
    failing = 0
    while found := misses(passing):
        if passing > _MOST_OVER * (least + 8) or passing > _MOST_WORKERS:
            raise PlanError(
                f"No number of workers is enough: with {passing:,} there is still "
                f"{', '.join(found)}. One worker alone may be too slow for this limit."
            )
        failing, passing, step = passing, passing + step, step * 2
    while failing == 0 and passing > 1:  # it began with enough
        fewer = max(1, min(passing - 1, int(passing / _DOWN)))
        if misses(fewer):
            failing = fewer
        else:
            passing = fewer
    while passing - failing > max(1, int(_PRECISION * passing)):
        middle = (failing + passing) // 2
        if misses(middle):
            failing = middle
        else:
            passing = middle
    return passing


def capacity_of(calibration: Calibration, load: Load, seed: int) -> float:
    """Requests a second of a worker that always has as many as its batch holds.

    Raises:
        PlanError: No request fits it.
    """
    one = _full(calibration, load, seed, None)
    if not one.completed:
        raise PlanError(
            "No request fits the worker: prompts and answers are longer than its context or pool."
        )
    found = _full(calibration, load, seed, _ROUNDS * one.e2e.mean)
    return max(1e-9, found.requests_per_second)


def _full(calibration: Calibration, load: Load, seed: int, seconds: float | None) -> Outcome:
    """One worker with a full batch for so long, or until each of its first callers is served."""
    limits = calibration.limits
    callers = min(limits.max_sequences, limits.max_batch_tokens)
    random, numbers = seeded(seed, "capacity"), count(1)

    def draw(number: int, at: float) -> Request:
        prompt, output = load.pairs(random)
        return Request(number, at, prompt, output, load.cached_of(prompt, limits.block_size))

    def following(at: float) -> Request | None:
        return None if seconds is None or at >= seconds else draw(-next(numbers), at)

    first = (draw(number, 0.0) for number in range(callers))
    warmup = 0.0 if seconds is None else seconds / _ROUNDS
    settings = FleetSettings(1, warmup=warmup, backlog_limit=None, queue_timeout=1e12)
    return Fleet(calibration, settings, first, seconds, following).run()
