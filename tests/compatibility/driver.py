"""A fleet of two versions: a front and a worker of each, killed and replaced under load."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from ..chaos import driver
from ..chaos.driver import ChaosSettings, Outcome
from ..chaos.fleet import Fleet, FleetSettings
from ..chaos.process import HERE, Process
from ..chaos.schedule import Kind
from .checkout import Checkout

KINDS = (
    Kind.WORKER_KILL,
    Kind.WORKER_UPDATE,
    Kind.WORKER_STOP,
    Kind.ENGINE_KILL,
    Kind.FRONT_KILL,
    Kind.FRONT_UPDATE,
    Kind.REDIS_KILL,
)


@dataclasses.dataclass(frozen=True, slots=True)
class MixedSettings:
    """How long, and how much."""

    seed: int
    seconds: float
    folder: Path
    previous: str
    num_callers: int = 12
    num_specs: int = 16
    most_tokens: int = 400
    kinds: tuple[Kind, ...] = KINDS
    pause_seconds: tuple[float, float] = (4.0, 8.0)
    say: Callable[[str], None] = print


async def run(settings: MixedSettings) -> tuple[Outcome, Counter[tuple[str, str]]]:
    """Run both versions side by side, and judge. Raises LookupError without the other's code.

    With it comes how often a worker of one version went on where one of another had been.
    """
    other = Checkout(settings.previous, settings.folder / "previous")
    fleets: list[Fleet] = []

    def make_fleet(fleet: FleetSettings) -> Fleet:
        hosts = (HERE, other)
        fleets.append(Fleet(dataclasses.replace(fleet, front_hosts=hosts, worker_hosts=hosts)))
        return fleets[-1]

    outcome = await driver.run(
        ChaosSettings(
            seed=settings.seed,
            seconds=settings.seconds,
            folder=settings.folder,
            num_callers=settings.num_callers,
            num_specs=settings.num_specs,
            most_tokens=settings.most_tokens,
            kinds=settings.kinds,
            pause_seconds=settings.pause_seconds,
            make_fleet=make_fleet,
            say=settings.say,
        )
    )
    return outcome, _takeovers(fleets[-1].workers_made)


def _takeovers(workers: Iterable[Process]) -> Counter[tuple[str, str]]:
    """From which version to which, by the workers' logs."""
    attempts: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for worker in workers:
        version = "this" if worker.host is HERE else "previous"
        text = worker.log.read_text("utf-8", "replace") if worker.log.exists() else ""
        for line in text.splitlines():
            if line.startswith("{") and '"event": "claimed"' in line:
                said = json.loads(line)
                attempts[said["generation"]][said["attempt"]] = version
    return Counter(
        (each[attempt - 1], version)
        for each in attempts.values()
        for attempt, version in each.items()
        if attempt - 1 in each
    )
