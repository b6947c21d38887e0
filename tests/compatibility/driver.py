"""A fleet of two versions: a front and a worker of each, killed and replaced under load."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from ..chaos import driver
from ..chaos.driver import ChaosSettings, Outcome
from ..chaos.fleet import Fleet, FleetSettings
from ..chaos.process import HERE
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


async def run(settings: MixedSettings) -> Outcome:
    """Run both versions side by side, and judge. Raises LookupError without the other's code."""
    other = Checkout(settings.previous, settings.folder / "previous")

    def make_fleet(fleet: FleetSettings) -> Fleet:
        hosts = (HERE, other)
        return Fleet(dataclasses.replace(fleet, front_hosts=hosts, worker_hosts=hosts))

    return await driver.run(
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


def takeovers(folder: Path) -> Counter[tuple[str, str]]:
    """How often a worker of one version went on where one of another had been, by their logs."""
    attempts: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for log in folder.glob("worker-*.log"):
        version = "previous" if int(log.stem.removeprefix("worker-")) % 2 else "this"
        for line in log.read_text("utf-8", "replace").splitlines():
            if line.startswith("{") and '"event": "claimed"' in line:
                said = json.loads(line)
                attempts[said["generation"]][said["attempt"]] = version
    return Counter(
        (each[attempt - 1], version)
        for each in attempts.values()
        for attempt, version in each.items()
        if attempt - 1 in each
    )
