"""Requests that are none, to services whose code is not ours: health and reflection.

gRPC would call that an unknown error and write a traceback into the log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError


class DecodingInterceptor(grpc.aio.ServerInterceptor):
    """Decodes requests in the handlers, and answers INVALID_ARGUMENT for what cannot be."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        handler = await continuation(details)
        if handler is None or handler.request_deserializer is None:
            return handler  # unknown, or ours: it decodes by itself
        decode = handler.request_deserializer
        if handler.request_streaming:
            wrapped = _decoding_stream(handler.stream_stream, decode)
            make = grpc.stream_stream_rpc_method_handler
        elif handler.response_streaming:
            wrapped = _decoding(handler.unary_stream, decode)
            make = grpc.unary_stream_rpc_method_handler
        else:
            wrapped = _decoding(handler.unary_unary, decode)
            make = grpc.unary_unary_rpc_method_handler
        return make(wrapped, response_serializer=handler.response_serializer)


def _decoding(behave: Callable[..., Any], decode: Callable[[bytes], Any]) -> Any:
    async def decoded(payload: bytes, context: Any) -> Any:
        try:
            request = decode(payload)
        except DecodeError:
            await _refuse(context)
        return await behave(request, context)

    return decoded


def _decoding_stream(behave: Callable[..., Any], decode: Callable[[bytes], Any]) -> Any:
    async def decoded(payloads: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        async def requests() -> AsyncIterator[Any]:
            async for payload in payloads:
                yield decode(payload)

        try:
            async for response in behave(requests(), context):
                yield response
        except DecodeError:
            await _refuse(context)

    return decoded


async def _refuse(context: Any) -> None:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a valid message")
