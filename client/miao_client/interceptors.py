"""Interceptors of users: what runs around each call that a client makes.

They are gRPC's own (`grpc.UnaryUnaryClientInterceptor` and so on), and run within the SDK: the
first of the list is the outermost of them, and all see every try of a call and every connection
of a stream with the metadata that it carries, the key included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc

from miao_client.errors import InvalidRequestError

# What `Client(interceptors=[...])` takes: gRPC's own.
Interceptor: TypeAlias = grpc.UnaryUnaryClientInterceptor | grpc.UnaryStreamClientInterceptor
# What `AsyncClient(interceptors=[...])` takes: gRPC's own for asyncio.
AsyncInterceptor: TypeAlias = (
    grpc.aio.UnaryUnaryClientInterceptor | grpc.aio.UnaryStreamClientInterceptor
)

_KINDS = (grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor)
_AIO_KINDS = (grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor)


def checked(interceptors: Sequence[Interceptor]) -> tuple[Interceptor, ...]:
    """Those of a client for threads.

    Raises:
        InvalidRequestError: One of them is none of gRPC's for calls of this kind.
    """
    return _checked(interceptors, _KINDS, "grpc.UnaryUnary- or UnaryStreamClientInterceptor")


def checked_async(interceptors: Sequence[AsyncInterceptor]) -> tuple[AsyncInterceptor, ...]:
    """Those of a client for asyncio.

    Raises:
        InvalidRequestError: One of them is none of gRPC's for asyncio.
    """
    name = "grpc.aio.UnaryUnary- or UnaryStreamClientInterceptor"
    found = _checked(interceptors, _AIO_KINDS, name)
    return tuple(part for each in found for part in _parts(each))


class _OfCalls(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, both: grpc.aio.UnaryUnaryClientInterceptor) -> None:
        self._both = both

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._both.intercept_unary_unary(continuation, details, request)


class _OfStreams(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, both: grpc.aio.UnaryStreamClientInterceptor) -> None:
        self._both = both

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._both.intercept_unary_stream(continuation, details, request)


def _parts(interceptor: AsyncInterceptor) -> tuple[AsyncInterceptor, ...]:
    """An interceptor of both kinds as two: a channel of gRPC's takes it for one kind alone."""
    if isinstance(interceptor, grpc.aio.UnaryUnaryClientInterceptor) and isinstance(
        interceptor, grpc.aio.UnaryStreamClientInterceptor
    ):
        return _OfCalls(interceptor), _OfStreams(interceptor)
    return (interceptor,)


def _checked(interceptors: Sequence[Any], kinds: tuple[type, ...], name: str) -> tuple[Any, ...]:
    if not all(isinstance(each, kinds) for each in interceptors):
        raise InvalidRequestError.of("interceptors", f"must be of the kind {name}")
    return tuple(interceptors)
