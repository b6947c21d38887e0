"""Calls over gRPC channels, for threads."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple, TypeVar

import grpc

from miao_client.callers import Shown, key_of, reject, shown
from miao_client.deadline import Deadline
from miao_client.errors import InvalidRequestError
from miao_client.failures import Failure
from miao_client.methods import Operation
from miao_client.recovery import Recovery
from miao_client.retry_budget import RetryBudget
from miao_client.settings import Settings
from miao_client.stream_state import NextCall
from miao_client.targets import Targets, channel_options
from miao_client.tls import stamp_of
from miao_client.tokens import AsyncTokenProvider
from miao_client.traces import CallTrace, Carried

_Answer = TypeVar("_Answer")


class Opened(NamedTuple):
    """A call that streams: its events, an iterator that raises RpcError; its channel and key."""

    events: Any
    channel: grpc.Channel
    key: str | None


class Transport:
    """Opens calls at the target in use, and goes on to the next when one breaks."""

    def __init__(self, settings: Settings, shared: Transport | None = None) -> None:
        if isinstance(settings.api_key, AsyncTokenProvider):
            raise InvalidRequestError.of("api_key", "must be a TokenProvider for threads")
        self.settings = settings
        self.budget: RetryBudget = (
            shared.budget if shared else RetryBudget(settings.retry_budget, settings.retry_ratio)
        )
        self._owns_channels = shared is None
        self._targets: Targets[grpc.Channel] = shared._targets if shared else _targets(settings)

    def call(self, operation: Operation[_Answer], timeout: float | None = None) -> _Answer:
        """Make a call that answers once, again if its connection breaks.

        Raises:
            MiaoError: It was refused, or nothing answered in time.
        """
        path, target = operation.method.path, self.settings.targets[0]
        trace = self.settings.traces.begin(path, operation.request, target)
        try:
            answer = self._call(operation, timeout, trace)
        except BaseException as error:
            trace.end(error)
            raise
        trace.answered(answer)
        trace.end()
        return operation.read(answer)

    def _call(self, operation: Operation[_Answer], timeout: float | None, trace: CallTrace) -> Any:
        deadline = Deadline(self.settings.call_timeout if timeout is None else timeout)
        recovery = Recovery(self.settings, operation.method.not_found, budget=self.budget)
        while True:
            shown = self._shown(trace.carried)
            channel = self._targets.current()
            once = channel.unary_unary(
                operation.method.path,
                request_serializer=type(operation.request).SerializeToString,
                response_deserializer=operation.method.response.FromString,
            )
            try:
                answer = once(
                    operation.request, timeout=deadline.remaining(), metadata=shown.metadata
                )
                recovery.progressed()
                return answer
            except grpc.RpcError as error:
                failure = Failure.of(error)
            except ValueError:
                self._targets.current()  # raises, if another thread closed the channel just now
                raise
            wait = recovery.next_try(failure, accepted=False)
            trace.note("retry", {"error.type": failure.code.name})
            self.leave(channel, shown.key, failure)
            self.sleep(deadline.cut(wait))

    def open(self, call: NextCall) -> Opened:
        """Open a call that streams."""
        shown = self._shown(call.metadata)
        channel = self._targets.current()
        stream = channel.unary_stream(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        try:
            events = stream(call.request, timeout=call.timeout, metadata=shown.metadata)
        except ValueError:
            self._targets.current()  # raises, if another thread closed the channel just now
            raise
        return Opened(events, channel, shown.key)

    def leave(self, channel: grpc.Channel, key: str | None, failure: Failure) -> None:
        """Use the next target from now on if this one's connection failed, and no key in vain."""
        if failure.is_unauthenticated:
            reject(self.settings.api_key, key)
        if failure.is_broken_connection:
            for replaced in self._targets.leave(channel):
                replaced.close()

    def sleep(self, seconds: float) -> None:
        """Wait before the next try."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close all connections, unless they are another's."""
        if not self._owns_channels:
            return
        for channel in self._targets.close():
            channel.close()

    def _shown(self, carried: Carried) -> Shown:
        metadata = self.settings.metadata + carried
        return shown(key_of(self.settings.api_key), metadata)


def _targets(settings: Settings) -> Targets[grpc.Channel]:
    connect, stamp = partial(_connect, settings), partial(stamp_of, settings.tls)
    return Targets(settings.targets, connect, stamp)


def _connect(settings: Settings, target: str) -> grpc.Channel:
    options = channel_options(target, health_check=settings.health_check)
    tls = settings.tls
    channel = (
        grpc.insecure_channel(target, options=options)
        if tls is None
        else grpc.secure_channel(target, tls.credentials(), options=options)
    )
    around = settings.interceptors
    return grpc.intercept_channel(channel, *around) if around else channel
