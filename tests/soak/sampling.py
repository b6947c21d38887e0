"""What every process and Valkey hold at one moment."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
from redis import Redis

from ..chaos.fleet import Fleet

_MIB = 1 << 20
_SCAN_COUNT = 1000


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers by what they are of: MiB, file descriptors, threads, keys."""

    values: Mapping[str, float]

    @classmethod
    def take(cls, fleet: Fleet, redis: Redis) -> Sample:
        """Look at the fleet, at Valkey, and at this process with its callers."""
        values: dict[str, float] = {}
        for name, process in _processes(fleet):
            with process.oneshot():
                values[f"{name}: MiB"] = process.memory_info().rss / _MIB
                values[f"{name}: files"] = process.num_fds()
                values[f"{name}: threads"] = process.num_threads()
        return cls(values | _redis_values(redis))

    @classmethod
    def middle(cls, samples: Sequence[Sample]) -> Sample:
        """Of each number the median."""
        names = samples[-1].values
        return cls({n: median(s.values[n] for s in samples if n in s.values) for n in names})


def _processes(fleet: Fleet) -> Iterator[tuple[str, psutil.Process]]:
    yield "callers", psutil.Process(os.getpid())
    for part in fleet.processes:
        yield part.name, psutil.Process(part.pid)
    for worker in fleet.workers:
        engine = worker.engine()
        for number, child in enumerate(psutil.Process(worker.pid).children(recursive=True)):
            yield f"{worker.name} {'engine' if child == engine else f'helper {number}'}", child


def _redis_values(redis: Redis) -> dict[str, float]:
    info: Any = redis.info("memory")
    kinds = Counter(_kind(key) for key in redis.scan_iter(count=_SCAN_COUNT))
    return {
        "redis: used MiB": info["used_memory"] / _MIB,
        "redis: keys": float(kinds.total()),
        **{f"redis: {kind}": float(count) for kind, count in kinds.items()},
    }


def _kind(key: bytes) -> str:
    """The part of a key that many share."""
    words = key.decode().split(":")
    return ":".join(words[:2])
