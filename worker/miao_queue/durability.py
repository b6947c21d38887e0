"""How safe an acceptance must be before it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.exceptions import ResponseError


class Safety(StrEnum):
    """Where an acceptance must have arrived."""

    SERVER = "server"  # in Redis, which writes its file as its `appendfsync` says
    FSYNC = "fsync"  # on the disk of Redis
    REPLICA = "replica"  # in a replica of Redis too


class NotDurableError(Exception):
    """A write has not arrived where it must, as far as Redis can say; it may yet."""


@dataclass(frozen=True, slots=True)
class Durability:
    """Asks Redis to wait until the writes of one connection are safe.

    Redis waits for the writes of the connection that asks. So the question goes
    into one pipeline with the write: one that is sent again after a broken
    connection comes with its write, and cannot be answered for nothing.
    """

    safety: Safety = Safety.SERVER
    timeout_ms: int = 2500

    @property
    def is_asked_for(self) -> bool:
        """Whether there is anything to wait for."""
        return self.safety is not Safety.SERVER

    def ask(self, pipeline: Any) -> None:
        """Add the question to the pipeline that writes."""
        if self.safety is Safety.FSYNC:
            pipeline.execute_command("WAITAOF", 1, 0, self.timeout_ms)
        else:
            pipeline.execute_command("WAIT", 1, self.timeout_ms)

    def check(self, answer: Any) -> None:
        """Read Redis's answer; NotDurableError says in words what is missing."""
        if isinstance(answer, ResponseError):
            raise NotDurableError(f"Redis cannot say that it is on disk: {answer}")
        if isinstance(answer, Exception):
            raise answer
        arrived = answer[0] if self.safety is Safety.FSYNC else answer
        if arrived < 1:
            where = "on disk" if self.safety is Safety.FSYNC else "in a replica"
            raise NotDurableError(f"after {self.timeout_ms / 1000:g} s it is not {where} yet")
