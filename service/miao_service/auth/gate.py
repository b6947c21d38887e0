"""Credentials for reflection, whose code is not ours.

Health stays open: what probes a front, such as Kubernetes, has no credentials.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from miao_queue.audit import AuditTrail
from miao_service.auth.authenticator import Authenticator
from miao_service.call_watch import CallWatch
from miao_service.handlers import guarded

_GUARDED = "/grpc.reflection."


class GateInterceptor(grpc.aio.ServerInterceptor):
    """Lets those into reflection whom the authenticator knows, whatever their scopes."""

    def __init__(self, authenticator: Authenticator, audit: AuditTrail) -> None:
        self._authenticator = authenticator
        self._audit = audit

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or not details.method.startswith(_GUARDED):
            return handler
        return grpc.stream_stream_rpc_method_handler(
            self._admitting(handler.stream_stream),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _admitting(self, behave: Callable[..., Any]) -> Any:
        async def admitting(requests: Any, context: Any) -> AsyncIterator[Any]:
            watch = CallWatch("ServerReflectionInfo", context, self._audit, is_stream=False)
            await guarded(context, watch, self._authenticator.identify(context))
            async for response in behave(requests, context):
                yield response

        return admitting
