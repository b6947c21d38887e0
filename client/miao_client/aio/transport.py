"""Calls over gRPC channels, for asyncio."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, TypeVar

import grpc

from miao_client.callers import shown
from miao_client.deadline import Deadline
from miao_client.failures import Failure
from miao_client.methods import Operation
from miao_client.recovery import Recovery
from miao_client.settings import Settings
from miao_client.stream_state import NextCall
from miao_client.targets import Targets, channel_options
from miao_client.tls import Tls

_Answer = TypeVar("_Answer")

CUT = Failure(grpc.StatusCode.CANCELLED, "The connection was closed.")


class AsyncTransport:
    """Opens calls at the target in use, and goes on to the next when one breaks."""

    def __init__(self, settings: Settings, shared: AsyncTransport | None = None) -> None:
        self.settings = settings
        self._owns_channels = shared is None
        self._targets: Targets[grpc.aio.Channel] = (
            shared._targets
            if shared
            else Targets(settings.targets, partial(_connect, settings.tls))
        )

    async def call(self, operation: Operation[_Answer], timeout: float | None = None) -> _Answer:  # noqa: ASYNC109  # the deadline travels to the service
        """Make a call that answers once, again if its connection breaks.

        Raises:
            MiaoError: It was refused, or nothing answered in time.
        """
        deadline = Deadline(self.settings.call_timeout if timeout is None else timeout)
        recovery = Recovery(self.settings, operation.method.not_found)
        while True:
            channel = self._targets.current()
            once: Any = channel.unary_unary(
                operation.method.path,
                request_serializer=type(operation.request).SerializeToString,
                response_deserializer=operation.method.response.FromString,
            )
            try:
                answer = await once(
                    operation.request, timeout=deadline.remaining(), metadata=self._metadata()
                )
                return operation.read(answer)
            except grpc.RpcError as error:
                failure = Failure.of(error)
            except asyncio.CancelledError:
                failure = cut_by_the_other_side()
            wait = recovery.next_try(failure, accepted=False)
            self.leave(channel, failure)
            await self.sleep(deadline.cut(wait))

    def open(self, call: NextCall) -> tuple[grpc.aio.Channel, Any]:
        """Open a call that streams; read() gives its events."""
        channel = self._targets.current()
        stream: Any = channel.unary_stream(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        return channel, stream(call.request, timeout=call.timeout, metadata=self._metadata())

    def leave(self, channel: grpc.aio.Channel, failure: Failure) -> None:
        """Use the next target from now on, if this one's connection failed."""
        if failure.is_broken_connection:
            self._targets.leave(channel)

    async def sleep(self, seconds: float) -> None:
        """Wait before the next try."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close all connections, unless they are another's."""
        if not self._owns_channels:
            return
        for channel in self._targets.close():
            await channel.close()

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return shown(self.settings.api_key, self.settings.metadata)


def cut_by_the_other_side() -> Failure:
    """What a CancelledError in a call means, where this task is not being cancelled.

    gRPC raises the same for a call that the other side cancelled, as a server
    does that stops.

    Raises:
        CancelledError: This task is being cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    return CUT


def _connect(tls: Tls | None, target: str) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=channel_options(target))
    return grpc.aio.secure_channel(target, tls.credentials(), options=channel_options(target))
