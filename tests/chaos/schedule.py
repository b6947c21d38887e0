"""Which failure comes when: all of it follows from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    """A way for a part of the fleet to fail."""

    ENGINE_KILL = "engine-kill"
    ENGINE_HANG = "engine-hang"
    WORKER_KILL = "worker-kill"
    WORKER_STOP = "worker-stop"  # longer than its lease; it wakes as a zombie
    WORKER_UPDATE = "worker-update"  # a new one comes, then the old one gets SIGTERM
    FRONT_KILL = "front-kill"
    FRONT_STOP = "front-stop"
    FRONT_UPDATE = "front-update"  # SIGTERM, and another on the same port
    REDIS_KILL = "redis-kill"
    REDIS_STOP = "redis-stop"
    REDIS_LOSS = "redis-loss"  # as killed, and up to a second of its file is lost
    REDIS_CUT = "redis-cut"  # the connections of workers and fronts to Redis
    CALLER_CUT = "caller-cut"  # the connections of callers to fronts
    CALLER_SILENCE = "caller-silence"  # those connections, for a while


# Without a Redis that loses what it had acknowledged: that is `appendfsync everysec`,
# and a bargain of its own.
SAFE_KINDS = tuple(kind for kind in Kind if kind is not Kind.REDIS_LOSS)

# For how long the victim is stopped, or dead until another takes its place; seconds.
_SECONDS = {
    Kind.ENGINE_KILL: (0.0, 0.0),
    Kind.ENGINE_HANG: (0.0, 0.0),
    Kind.WORKER_KILL: (0.0, 2.0),
    Kind.WORKER_STOP: (4.0, 8.0),
    Kind.WORKER_UPDATE: (0.0, 0.0),
    Kind.FRONT_KILL: (0.0, 2.0),
    Kind.FRONT_STOP: (1.0, 6.0),
    Kind.FRONT_UPDATE: (0.0, 1.0),
    Kind.REDIS_KILL: (0.0, 2.0),
    Kind.REDIS_STOP: (1.0, 6.0),
    Kind.REDIS_LOSS: (0.0, 2.0),
    Kind.REDIS_CUT: (0.0, 0.0),
    Kind.CALLER_CUT: (0.0, 0.0),
    Kind.CALLER_SILENCE: (1.0, 5.0),
}
_PAUSE_SECONDS = (5.0, 14.0)
_OVERLAP_SECONDS = (0.1, 2.0)
_OVERLAP_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure to come.

    at_seconds: from the start of the chaos.
    slot: which of the parts of its kind, where there are several.
    seconds: see _SECONDS.
    """

    at_seconds: float
    kind: StrEnum
    slot: int
    seconds: float


def plan(
    seed: int,
    length_seconds: float,
    kinds: Sequence[Kind] = SAFE_KINDS,
    pause_seconds: tuple[float, float] = _PAUSE_SECONDS,
) -> list[Failure]:
    """Failures for so long, each kind once before any comes again.

    The fleet mostly recovers between two; now and then they overlap.
    """
    random = Random(f"schedule {seed}")
    failures: list[Failure] = []
    deck: list[Kind] = []
    at_seconds = random.uniform(1.0, 3.0)
    while at_seconds < length_seconds:
        deck = deck or random.sample(kinds, len(kinds))
        kind = deck.pop()
        seconds = random.uniform(*_SECONDS[kind])
        failures.append(Failure(at_seconds, kind, random.randrange(2), seconds))
        overlaps = random.random() < _OVERLAP_SHARE
        at_seconds += random.uniform(*(_OVERLAP_SECONDS if overlaps else pause_seconds))
    return failures
