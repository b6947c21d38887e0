"""Calls over gRPC channels, for threads."""

from __future__ import annotations

import time
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


class Transport:
    """Opens calls at the target in use, and goes on to the next when one breaks."""

    def __init__(self, settings: Settings, shared: Transport | None = None) -> None:
        self.settings = settings
        self._owns_channels = shared is None
        self._targets: Targets[grpc.Channel] = (
            shared._targets
            if shared
            else Targets(settings.targets, partial(_connect, settings.tls))
        )

    def call(self, operation: Operation[_Answer], timeout: float | None = None) -> _Answer:
        """Make a call that answers once, again if its connection breaks.

        Raises:
            MiaoError: It was refused, or nothing answered in time.
        """
        deadline = Deadline(self.settings.call_timeout if timeout is None else timeout)
        recovery = Recovery(self.settings, operation.method.not_found)
        while True:
            channel = self._targets.current()
            once = channel.unary_unary(
                operation.method.path,
                request_serializer=type(operation.request).SerializeToString,
                response_deserializer=operation.method.response.FromString,
            )
            try:
                answer = once(
                    operation.request, timeout=deadline.remaining(), metadata=self._metadata()
                )
                return operation.read(answer)
            except grpc.RpcError as error:
                failure = Failure.of(error)
            except ValueError:
                self._targets.current()  # raises, if another thread closed the channel just now
                raise
            wait = recovery.next_try(failure, accepted=False)
            self.leave(channel, failure)
            self.sleep(deadline.cut(wait))

    def open(self, call: NextCall) -> tuple[grpc.Channel, Any]:
        """Open a call that streams; its events are an iterator that raises RpcError."""
        channel = self._targets.current()
        stream = channel.unary_stream(
            call.method.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.method.response.FromString,
        )
        try:
            return channel, stream(call.request, timeout=call.timeout, metadata=self._metadata())
        except ValueError:
            self._targets.current()  # raises, if another thread closed the channel just now
            raise

    def leave(self, channel: grpc.Channel, failure: Failure) -> None:
        """Use the next target from now on, if this one's connection failed."""
        if failure.is_broken_connection:
            self._targets.leave(channel)

    def sleep(self, seconds: float) -> None:
        """Wait before the next try."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close all connections, unless they are another's."""
        if not self._owns_channels:
            return
        for channel in self._targets.close():
            channel.close()

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return shown(self.settings.api_key, self.settings.metadata)


def _connect(tls: Tls | None, target: str) -> grpc.Channel:
    options = channel_options(target)
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, tls.credentials(), options=options)
