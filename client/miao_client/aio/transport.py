"""Calls over gRPC channels, for asyncio."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, NamedTuple, TypeVar

import grpc

from miao_client.callers import Shown, key_of, reject, shown
from miao_client.deadline import Deadline
from miao_client.failures import Failure
from miao_client.methods import Operation
from miao_client.recovery import Recovery
from miao_client.retry_budget import RetryBudget
from miao_client.settings import Settings
from miao_client.stream_state import NextCall
from miao_client.targets import Targets, channel_options
from miao_client.tls import stamp_of
from miao_client.tokens import AsyncTokenProvider, TokenProvider
from miao_client.traces import CallTrace, Carried

_Answer = TypeVar("_Answer")

CUT = Failure(grpc.StatusCode.CANCELLED, "The connection was closed.")


class Opened(NamedTuple):
    """A call that streams, whose read() gives its events; its channel and key."""

    call: Any
    channel: grpc.aio.Channel
    key: str | None


class AsyncTransport:
    """Opens calls at the target in use, and goes on to the next when one breaks."""

    def __init__(self, settings: Settings, shared: AsyncTransport | None = None) -> None:
        self.settings = settings
        self.budget: RetryBudget = (
            shared.budget if shared else RetryBudget(settings.retry_budget, settings.retry_ratio)
        )
        self._owns_channels = shared is None
        self._targets: Targets[grpc.aio.Channel] = shared._targets if shared else _targets(settings)
        self._closing: set[asyncio.Task[None]] = set()

    async def call(self, operation: Operation[_Answer], timeout: float | None = None) -> _Answer:  # noqa: ASYNC109  # the deadline travels to the service
        """Make a call that answers once, again if its connection breaks.

        Raises:
            MiaoError: It was refused, or nothing answered in time.
        """
        path, target = operation.method.path, self.settings.targets[0]
        trace = self.settings.traces.begin(path, operation.request, target)
        try:
            answer = await self._call(operation, timeout, trace)
        except BaseException as error:
            trace.end(error)
            raise
        trace.answered(answer)
        trace.end()
        return operation.read(answer)

    async def _call(
        self,
        operation: Operation[_Answer],
        timeout: float | None,  # noqa: ASYNC109  # as above
        trace: CallTrace,
    ) -> Any:
        deadline = Deadline(self.settings.call_timeout if timeout is None else timeout)
        recovery = Recovery(self.settings, operation.method.not_found, budget=self.budget)
        while True:
            shown = self._shown_now(trace.carried) or await self._shown(trace.carried)
            channel = self._targets.current()
            once: Any = channel.unary_unary(
                operation.method.path,
                request_serializer=type(operation.request).SerializeToString,
                response_deserializer=operation.method.response.FromString,
            )
            try:
                answer = await once(
                    operation.request, timeout=deadline.remaining(), metadata=shown.metadata
                )
                recovery.progressed()
                return answer
            except grpc.RpcError as error:
                failure = Failure.of(error)
            except asyncio.CancelledError:
                failure = cut_by_the_other_side()
            wait = recovery.next_try(failure, accepted=False)
            trace.note("retry", {"error.type": failure.code.name})
            self.leave(channel, shown.key, failure)
            await self.sleep(deadline.cut(wait))

    def open_now(self, call: NextCall) -> Opened | None:
        """Open a call that streams; None where a token has to be waited for."""
        shown = self._shown_now(call.metadata)
        return None if shown is None else self._open(call, shown)

    async def open(self, call: NextCall) -> Opened:
        """Open a call that streams."""
        return self._open(call, self._shown_now(call.metadata) or await self._shown(call.metadata))

    def leave(self, channel: grpc.aio.Channel, key: str | None, failure: Failure) -> None:
        """Use the next target from now on if this one's connection failed, and no key in vain."""
        if failure.is_unauthenticated:
            reject(self.settings.api_key, key)
        if failure.is_broken_connection:
            for replaced in self._targets.leave(channel):
                closing = asyncio.ensure_future(replaced.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    async def sleep(self, seconds: float) -> None:
        """Wait before the next try."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close all connections, unless they are another's."""
        if not self._owns_channels:
            return
        for channel in self._targets.close():
            await channel.close()
        await asyncio.gather(*self._closing)

    def _open(self, call: NextCall, shown: Shown) -> Opened:
        channel = self._targets.current()
        stream: Any = channel.unary_stream(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        opened = stream(call.request, timeout=call.timeout, metadata=shown.metadata)
        return Opened(opened, channel, shown.key)

    def _shown_now(self, carried: Carried) -> Shown | None:
        """What a call carries, unless a token has to be waited for."""
        key, metadata = self.settings.api_key, self.settings.metadata + carried
        if isinstance(key, TokenProvider | AsyncTokenProvider):
            held = key.held()
            return None if held is None else shown(held, metadata)
        return shown(key_of(key), metadata)

    async def _shown(self, carried: Carried) -> Shown:
        key = self.settings.api_key
        if isinstance(key, AsyncTokenProvider):
            token: str | None = await key.token()
        else:
            token = await asyncio.to_thread(key_of, key)
        return shown(token, self.settings.metadata + carried)


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


def _targets(settings: Settings) -> Targets[grpc.aio.Channel]:
    connect, stamp = partial(_connect, settings), partial(stamp_of, settings.tls)
    return Targets(settings.targets, connect, stamp)


def _connect(settings: Settings, target: str) -> grpc.aio.Channel:
    options = channel_options(target, health_check=settings.health_check)
    around = settings.interceptors
    if settings.tls is None:
        return grpc.aio.insecure_channel(target, options=options, interceptors=around)
    credentials = settings.tls.credentials()
    return grpc.aio.secure_channel(target, credentials, options=options, interceptors=around)
