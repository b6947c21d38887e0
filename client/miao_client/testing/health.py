"""grpc.health.v1 of a scripted server, as bytes: no package for it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc

_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # field 1, `status`


class Health:
    """Says the same for every name, and tells whoever watches when that changes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_serving = True
        self._is_closed = False

    def tell(self, is_serving: bool) -> None:
        """Say so from now on."""
        with self._changed:
            self._is_serving = is_serving
            self._changed.notify_all()

    def close(self) -> None:
        """Let the watchers go."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def handler(self) -> grpc.GenericRpcHandler:
        """Its methods."""
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Check": grpc.unary_unary_rpc_method_handler(lambda request, context: self._status()),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    def _watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self._wake)
        status: bytes | None = None
        while (status := self._next(status, context)) is not None:
            yield status

    def _next(self, last: bytes | None, context: grpc.ServicerContext) -> bytes | None:
        """The next status that is another; None when nobody watches any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over(context) or self._status() != last)
            return None if self._is_over(context) else self._status()

    def _is_over(self, context: grpc.ServicerContext) -> bool:
        return self._is_closed or not context.is_active()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _status(self) -> bytes:
        return _SERVING if self._is_serving else _NOT_SERVING
