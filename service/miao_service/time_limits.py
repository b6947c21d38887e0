"""How long a request may take, of all who have a say in it."""

from __future__ import annotations

from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_pb2 as understanding
from miao_service.settings import ServiceSettings

Limited = pb.GenerationSpec | understanding.Handling


def timeout_ms(settings: ServiceSettings, asked: Limited, time_remaining: float | None) -> int:
    """From acceptance to the end: the front's limit, the request's, or the call's own."""
    limits = [settings.max_timeout_seconds]
    if asked.HasField("timeout"):
        limits.append(asked.timeout.ToMilliseconds() / 1000)
    if time_remaining is not None:
        limits.append(time_remaining)
    return max(1, int(min(limits) * 1000))


def queue_timeout_ms(settings: ServiceSettings, asked: Limited) -> int:
    """The wait for a worker: as the request says, else the front's."""
    if asked.HasField("queue_timeout"):
        return max(1, asked.queue_timeout.ToMilliseconds())
    return max(1, int(settings.queue_timeout_seconds * 1000))
