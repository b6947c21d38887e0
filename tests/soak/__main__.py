"""`python -m tests.soak`: steady load on a real fleet. Exit status 1 says that something grew."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from redis import Redis

from ..chaos import callers
from ..chaos.clients import Clients
from ..chaos.fleet import Fleet, FleetSettings
from ..chaos.observation import Observation
from ..chaos.specs import make_specs
from . import growth
from .sampling import Sample

_WAYS = ("task", "thread", "wire")
_RETENTION_SECONDS = 30
_SAMPLE_SECONDS = 10.0
_WARM_UP_SHARE, _WARM_UP_SECONDS = 0.2, 30.0
_SETTLE_SECONDS = 3.0  # after a small load, before the first sample; RQ's books follow
_EXPIRE_SECONDS = _RETENTION_SECONDS + 20.0
_NUM_SPECS = 16
_MOST_TOKENS = 400


@dataclass(slots=True)
class _Load:
    """Callers without a pause; counts what they did and keeps what went wrong."""

    clients: Clients
    seed: int
    num_generations: int = 0
    num_tokens: int = 0
    violations: list[str] = field(default_factory=list)

    async def run(self, num_callers: int, until: float) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(num_callers):
                tasks.create_task(self._call_on(Random(f"{self.seed} {number}"), until))

    async def _call_on(self, random: Random, until: float) -> None:
        specs = make_specs(self.seed, _NUM_SPECS, _MOST_TOKENS)
        while time.monotonic() < until:
            seen = Observation(random.choice(specs), random.choice(_WAYS), None)
            await callers.call(seen.behaviour, self.clients, seen, random)
            self.num_generations += 1
            self.num_tokens += len(seen.token_ids)
            self.violations += [violation.text for violation in seen.violations]


async def _soak(arguments: argparse.Namespace, folder: Path) -> list[str]:
    environ = {"MIAO_RETENTION_SECONDS": str(_RETENTION_SECONDS)}
    fleet = Fleet(FleetSettings(folder, front_environ=environ))
    clients = Clients([fleet.targets, fleet.targets[::-1]], arguments.callers)
    try:
        await fleet.start()
        with Redis.from_url(fleet.redis_url) as redis:
            return await _measure(fleet, redis, _Load(clients, arguments.seed), arguments)
    finally:
        await clients.close()
        await fleet.stop()


async def _measure(
    fleet: Fleet, redis: Redis, load: _Load, arguments: argparse.Namespace
) -> list[str]:
    await load.run(_NUM_SPECS, time.monotonic() + 1.0)  # so that what is there once is there
    await asyncio.sleep(_EXPIRE_SECONDS)
    start = Sample.take(fleet, redis)
    seconds = arguments.minutes * 60
    began = time.monotonic()
    samples = await _sample_while(load, arguments.callers, began + seconds, fleet, redis)
    warm_up = max(_WARM_UP_SECONDS, _WARM_UP_SHARE * seconds)
    steady = [sample for at, sample in samples if at - began >= warm_up]
    print(
        f"{load.num_generations} generations, {load.num_tokens} tokens in {seconds:.0f} s; "
        f"waiting {_EXPIRE_SECONDS:.0f} s for what they left to expire",
        flush=True,
    )
    await asyncio.sleep(_EXPIRE_SECONDS)
    end = Sample.take(fleet, redis)
    third = max(1, len(steady) // 3)
    before, after = Sample.middle(steady[:third]), Sample.middle(steady[-third:])
    print(_table([start, before, after, end]))
    return [*growth.excess(before, after), *growth.leftovers(start, end), *load.violations]


async def _sample_while(
    load: _Load, num_callers: int, until: float, fleet: Fleet, redis: Redis
) -> list[tuple[float, Sample]]:
    samples: list[tuple[float, Sample]] = []
    running = asyncio.create_task(load.run(num_callers, until))
    while not (await asyncio.wait([running], timeout=_SAMPLE_SECONDS))[0]:
        if time.monotonic() < until:
            samples.append((time.monotonic(), await asyncio.to_thread(Sample.take, fleet, redis)))
    await running
    return samples


def _table(samples: Sequence[Sample]) -> str:
    names = sorted({name for sample in samples for name in sample.values})
    width = max(map(len, names))
    head = "".join(f"{title:>12}" for title in ("start", "warmed up", "under load", "end"))
    rows = [
        f"{name:{width}}" + "".join(f"{sample.values.get(name, 0.0):12.1f}" for sample in samples)
        for name in names
    ]
    return "\n".join([f"{'':{width}}{head}", *rows])


def main() -> int:
    arguments = _parser().parse_args()
    folder = Path(tempfile.mkdtemp(prefix="miao-soak-"))
    found = asyncio.run(_soak(arguments, folder))
    if found:
        print("\n".join(["", *found, f"logs are kept in {folder}"]))
        return 1
    shutil.rmtree(folder)
    print("nothing has grown")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--minutes", type=float, default=10.0, help="how long the load lasts")
    option("--seed", type=int, default=1, help="of the callers")
    option("--callers", type=int, default=16, help="generations at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
