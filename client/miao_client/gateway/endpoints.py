"""What each address of the gateway does: read, call the service, answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from miao_client.aio.client import AsyncClient
from miao_client.aio.stream import AsyncGenerationStream
from miao_client.gateway import (
    chat_request,
    completion_request,
    embeddings,
    fields,
    models,
)
from miao_client.gateway.attendance import EventStream, attended
from miao_client.gateway.callers import Caller
from miao_client.gateway.chat_response import ChatCompletion
from miao_client.gateway.completion_request import CompletionRequest
from miao_client.gateway.completion_response import Completion, Head
from miao_client.gateway.errors import Refusal
from miao_client.gateway.merging import merged
from miao_client.results import GenerationResult

_T = TypeVar("_T")

IGNORED_HEADER = "x-miao-ignored"


class Endpoints:
    """The gateway's addresses over one client, whose connections all callers share."""

    def __init__(self, client: AsyncClient, lenient: bool, most_body_bytes: int) -> None:
        self._client = client
        self._lenient = lenient
        self._most_body_bytes = most_body_bytes

    async def chat_completions(self, request: Request) -> ASGIApp:
        """POST /v1/chat/completions."""
        given, caller = await self._read(request), Caller.of(request)
        asked = chat_request.read(given)
        client = caller.client(self._client)
        stream = client.generate(asked.messages, **asked.options, **caller.options())
        headers = self._headers(given, caller)

        async def begin() -> ChatCompletion:
            generation_id = await stream.accepted()
            model = stream.so_far.model or asked.options.get("model", "")
            return ChatCompletion(generation_id, model, asked.logprobs)

        async def whole() -> dict[str, Any]:
            completion = await begin()
            async for chunk in stream:
                completion.add(chunk)
            return completion.whole(await stream.result())

        async def pieces(completion: ChatCompletion) -> AsyncGenerator[dict[str, Any], None]:
            yield completion.opening()
            async for chunk in stream:
                for piece in completion.pieces(chunk):
                    yield piece
            for piece in completion.last_pieces(await stream.result(), asked.include_usage):
                yield piece

        if not asked.stream:
            return await _answered(request, whole(), [stream], headers)
        completion = await _begun(request, begin(), [stream])
        return EventStream(pieces(completion), stream.close, headers)

    async def completions(self, request: Request) -> ASGIApp:
        """POST /v1/completions."""
        given, caller = await self._read(request), Caller.of(request)
        asked = completion_request.read(given)
        client = caller.client(self._client)
        streams = [
            client.generate(prompt, **asked.options, **caller.options(index, len(asked.prompts)))
            for index, prompt in enumerate(asked.prompts)
        ]
        headers = self._headers(given, caller)
        work = _Completions(asked, streams)
        if not asked.stream:
            return await _answered(request, work.whole(), streams, headers)
        head = await _begun(request, work.begin(), streams)
        return EventStream(work.pieces(head), lambda: _close(streams), headers)

    async def embeddings(self, request: Request) -> ASGIApp:
        """POST /v1/embeddings."""
        given, caller = await self._read(request), Caller.of(request)
        asked = embeddings.read(given)
        client = caller.client(self._client)
        options = caller.request_id()

        async def work() -> dict[str, Any]:
            found = await client.embed(asked.inputs, **asked.options, **options)
            return embeddings.write(found, asked.as_base64)

        return await _answered(request, work(), [], self._headers(given, caller))

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models."""
        found = await Caller.of(request).client(self._client).models()
        return JSONResponse({"object": "list", "data": [models.write(each) for each in found]})

    async def get_model(self, request: Request) -> Response:
        """GET /v1/models/{name}."""
        client = Caller.of(request).client(self._client)
        return JSONResponse(models.write(await client.model(request.path_params["name"])))

    async def health(self, _: Request) -> Response:
        """GET /health: whether the gateway answers; it holds nothing that could be ill."""
        return JSONResponse({"status": "ok"})

    async def _read(self, request: Request) -> fields.Fields:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._most_body_bytes:
                raise Refusal(
                    f"the request's body is larger than {self._most_body_bytes:,} bytes",
                    status=413,
                    code="body_too_large",
                )
        return fields.Fields(fields.parse(bytes(body)), lenient=self._lenient)

    def _headers(self, given: fields.Fields, caller: Caller) -> dict[str, str]:
        headers = {"x-request-id": caller.key}
        if given.ignored:
            headers[IGNORED_HEADER] = ", ".join(given.ignored)
        return headers


class _Completions:
    """The generations of one request, a stream for each of its prompts."""

    def __init__(self, asked: CompletionRequest, streams: Sequence[AsyncGenerationStream]) -> None:
        self._asked = asked
        self._streams = streams
        self._parts = [Completion(asked, position) for position in range(len(streams))]

    async def begin(self) -> Head:
        ids = await asyncio.gather(*(stream.accepted() for stream in self._streams))
        model = self._streams[0].so_far.model or self._asked.options.get("model", "")
        return Head(ids, model)

    async def whole(self) -> dict[str, Any]:
        head = await self.begin()
        results = await asyncio.gather(*map(self._collect, self._parts, self._streams))
        choices = [
            choice
            for part, result in zip(self._parts, results, strict=True)
            for choice in part.choices(result)
        ]
        return head.whole(choices, results)

    async def pieces(self, head: Head) -> AsyncGenerator[dict[str, Any], None]:
        results: list[GenerationResult] = []
        courses = [
            _course(part, stream, results)
            for part, stream in zip(self._parts, self._streams, strict=True)
        ]
        async with aclosing(merged(courses)) as choices:
            async for choice in choices:
                yield head.piece(choice)
        if self._asked.include_usage:
            yield head.usage(results)

    async def _collect(self, part: Completion, stream: AsyncGenerationStream) -> GenerationResult:
        async for chunk in stream:
            part.add(chunk)
        return await stream.result()


async def _course(
    part: Completion, stream: AsyncGenerationStream, results: list[GenerationResult]
) -> AsyncGenerator[dict[str, Any], None]:
    """The choices that one generation adds to a stream, as they come."""
    async for chunk in stream:
        for choice in part.pieces(chunk):
            yield choice
    result = await stream.result()
    results.append(result)
    for choice in part.endings(result):
        yield choice


async def _answered(
    request: Request,
    work: Coroutine[Any, Any, dict[str, Any]],
    streams: Sequence[AsyncGenerationStream],
    headers: dict[str, str],
) -> Response:
    """The answer of a request that does not stream; its generations end with it."""
    try:
        return JSONResponse(await attended(request.receive, work), headers=headers)
    finally:
        await _close(streams)


async def _begun(
    request: Request, work: Coroutine[Any, Any, _T], streams: Sequence[AsyncGenerationStream]
) -> _T:
    """What a stream begins with, once the service has accepted it: refusals have a status yet."""
    try:
        return await attended(request.receive, work)
    except BaseException:
        await _close(streams)
        raise


async def _close(streams: Sequence[AsyncGenerationStream]) -> None:
    for stream in streams:
        await stream.close()
