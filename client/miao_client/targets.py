"""The channels to a client's targets, and which of them is in use."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from miao_client.errors import ClientClosedError, InvalidRequestError

_Channel = TypeVar("_Channel")

_MOST_MESSAGE_BYTES = 16 * 1024 * 1024  # a prompt may be 4 MiB, its tokens' forms more

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", _MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MOST_MESSAGE_BYTES),
    # A connection that died in silence, with the machine at its other end, is found within
    # 8 seconds, also while a long prompt is computed and nothing is sent.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # So too where a ping of gRPC's own, for its windows, was under way: only one is at a time, and
    # it would be waited for for a minute.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Come back quickly: a restarted service is up within a second or two.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.min_reconnect_backoff_ms", 3_000),  # also the time that a connection may take
)

HEALTH_NAME = "miao.v1.GenerationService"  # by which fronts tell grpc.health.v1 of themselves


def channel_options(target: str, *, health_check: bool = True) -> tuple[tuple[str, int | str], ...]:
    """How to reach a target: calls go in turn to all the addresses that one name stands for.

    A front that stops closes its connections, and its turn passes to the others; its address
    comes back in when it can be connected to again. With `health_check` gRPC watches the health
    of each as well (gRFC A17), and one that says that it does not serve gets no new calls while it
    says so; its streams go on. A server without the health service counts as healthy.
    """
    stands_for_several = target.startswith(("dns:", "ipv4:", "ipv6:"))
    options: tuple[tuple[str, int | str], ...] = CHANNEL_OPTIONS
    if not stands_for_several:
        return options
    balancing: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if health_check:
        balancing["healthCheckConfig"] = {"serviceName": HEALTH_NAME}
    return (*options, ("grpc.service_config", json.dumps(balancing)))


class Targets(Generic[_Channel]):
    """One channel for each target, opened at its first use.

    After a fork the child opens its own: gRPC's channels do not survive one.

    gRPC holds a channel's certificates for as long as it lives. So where a connection has
    failed and their files have changed meanwhile, another channel takes its place. The old
    one stays open for the calls that it has, until it is two behind.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        connect: Callable[[str], _Channel],
        stamp: Callable[[], object] = lambda: None,
    ) -> None:
        """`stamp` changes with what `connect` reads, and is None where that cannot be read."""
        self._names = names
        self._connect = connect
        self._stamp = stamp
        self._lock = threading.Lock()
        self._index = 0
        self._closed = False
        self._channels: dict[tuple[int, str], _Channel] = {}
        self._stamps: dict[tuple[int, str], object] = {}  # when the channels were opened
        self._replaced: dict[tuple[int, str], _Channel] = {}  # those that were before them

    def current(self) -> _Channel:
        """The channel in use."""
        with self._lock:
            if self._closed:
                raise ClientClosedError("The client is closed.")
            key = (os.getpid(), self._names[self._index])
            if key not in self._channels:
                self._stamps[key] = self._stamp()
                self._channels[key] = self._connect(key[1])
            return self._channels[key]

    def leave(self, channel: _Channel) -> list[_Channel]:
        """Go on to the next target, unless another caller already has.

        Returns channels that the caller is to close.
        """
        with self._lock:
            if self._channels.get((os.getpid(), self._names[self._index])) is channel:
                self._index = (self._index + 1) % len(self._names)
            return [] if self._closed else self._renew(channel)

    def _renew(self, channel: _Channel) -> list[_Channel]:
        for key, held in self._channels.items():
            if held is channel and key[0] == os.getpid():
                break
        else:
            return []  # another caller has
        stamp = self._stamp()
        if stamp is None or stamp == self._stamps[key]:
            return []
        try:
            renewed = self._connect(key[1])
        except InvalidRequestError:  # in the midst of being replaced
            return []
        self._channels[key], self._stamps[key] = renewed, stamp
        last = self._replaced.pop(key, None)
        self._replaced[key] = channel
        return [] if last is None else [last]

    def close(self) -> list[_Channel]:
        """Allow no further use; returns the channels that the caller is to close."""
        with self._lock:
            self._closed = True
            held = [*self._channels.items(), *self._replaced.items()]
            return [channel for (pid, _), channel in held if pid == os.getpid()]
