"""Which request is sent when: the load and the requests, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, takewhile

from miao_client.bench.arrivals import poisson
from miao_client.bench.loads import Closed, Load, Poisson, Traced
from miao_client.bench.settings import Settings
from miao_client.bench.workload import Request, Workload, seeded


@dataclass(frozen=True, slots=True)
class Planned:
    """A request and when it is due; in a closed loop, as soon as a caller is free."""

    request: Request
    at: float | None = None  # seconds after the beginning


def planned(settings: Settings, workload: Workload, load: Load, index: int) -> Iterator[Planned]:
    """The requests of load number `index`, made as they are asked for.

    The seed decides them, and the index: each load has prompts of its own, which
    no load before it has left in a cache.
    """
    random = seeded(settings.seed, index, "requests")
    match load:
        case Closed():
            plan = (Planned(workload.request(random, number)) for number in count())
        case Poisson(rate):
            times = poisson(rate, seeded(settings.seed, index, "arrivals"))
            plan = (Planned(workload.request(random, n), at) for n, at in enumerate(times))
        case Traced(_, arrivals):
            plan = (
                Planned(workload.request(random, number, arrival), arrival.at)
                for number, arrival in enumerate(arrivals)
            )
    if settings.duration is None:
        return islice(plan, settings.num_requests(load))
    end = settings.duration  # in a closed loop the callers look at the clock themselves
    return takewhile(lambda each: each.at is None or each.at < end, plan)


def warming(settings: Settings, workload: Workload, index: int) -> Iterator[Planned]:
    """The requests before those of load number `index`, other than those."""
    random = seeded(settings.seed, index, "warmup")
    return (Planned(workload.request(random, number)) for number in range(settings.warmup))
