"""The asynchronous client over real connections: the twin of the other tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from miao.v1 import generation_pb2 as pb
from miao_client import (
    AsyncClient,
    BusyError,
    ClientClosedError,
    DataLossError,
    DeadlineExceededError,
    FinishReason,
    GenerationNotFoundError,
    InvalidRequestError,
    UnavailableError,
)


@pytest.fixture
async def client(target: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(target) as client:
        yield client


def running(service: Any) -> None:
    """Script a generation that runs on until the test ends."""
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})


async def test_a_stream_yields_each_chunk(service: Any, client: AsyncClient) -> None:
    service.script("Generate", service.answer("为", "什么", "？"))
    assert [chunk.text async for chunk in client.generate("你好")] == ["为", "什么", "？"]


async def test_a_result_holds_everything(service: Any, client: AsyncClient) -> None:
    service.script("Generate", service.answer("a", "b"))
    stream = client.generate("hello")
    assert stream.generation_id is None
    assert await stream.accepted() == stream.generation_id == "gen-1"
    result = await stream.result()
    assert (result.text, result.finish_reason) == ("ab", FinishReason.STOP)
    assert await stream.text() == "ab"


async def test_many_streams_share_a_client(service: Any, client: AsyncClient) -> None:
    service.script("Generate", *[service.answer("a", "b")] * 6)
    texts = await asyncio.gather(*(client.generate("hello").text() for _ in range(6)))
    assert texts == ["ab"] * 6


async def test_a_broken_stream_goes_on_where_it_was(service: Any, client: AsyncClient) -> None:
    service.script("Generate", [service.cut], [service.accepted(), service.tokens(1, "a")])
    again = [service.tokens(3, "abc", 3, attempt=2), service.finished(3, attempt=2)]
    service.script("FollowGeneration", [service.cut], again)
    result = await client.generate("hello").result()
    assert (result.text, result.token_ids, result.attempts) == ("abc", (1, 2, 3), 2)
    first, second = service.requests("Generate")
    assert first == second


async def test_a_server_that_cancels_the_call_is_a_broken_connection(
    service: Any, client: AsyncClient
) -> None:
    def cancel() -> None:
        raise service.Refuse(grpc.StatusCode.CANCELLED, "RST_STREAM with error code 8")

    service.script("Generate", [service.accepted(), cancel])
    service.script("FollowGeneration", [service.finished(0)])
    service.script("ListModels", service.Refuse(grpc.StatusCode.CANCELLED), {"models": []})
    assert await client.generate("hello").text() == ""
    assert await client.models() == ()


async def test_another_front_takes_over_when_one_is_killed(service: Any) -> None:
    targets = [service.start(), service.start()]
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("FollowGeneration", [service.tokens(2, "b"), service.finished(2)])
    async with AsyncClient(targets) as client:
        texts = []
        async for chunk in client.generate("hello"):
            texts.append(chunk.text)
            if len(texts) == 1:
                await asyncio.to_thread(service.kill, service.targets[0])
        assert texts == ["a", "b"]


async def test_a_followed_generation_that_is_forgotten_may_be_restored(
    service: Any, client: AsyncClient
) -> None:
    unknown = service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown")
    begun = [service.accepted(), service.tokens(1, "a"), service.cut]
    rest = [service.tokens(2, "b"), service.finished(2)]
    service.script("FollowGeneration", begun, unknown, unknown, rest)
    assert [chunk.text async for chunk in client.follow("gen-1")] == ["a", "b"]


async def test_one_that_is_never_restored_is_not_found_in_time(service: Any, target: str) -> None:
    unknown = service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown")
    service.script("FollowGeneration", [service.accepted(), service.cut], *[unknown] * 1000)
    began = time.monotonic()
    async with AsyncClient(target, reconnect_timeout=0.5) as client:
        with pytest.raises(GenerationNotFoundError):
            await client.follow("gen-1").result()
    assert time.monotonic() - began < 3


async def test_a_gap_is_raised(service: Any, client: AsyncClient) -> None:
    service.script("Generate", [service.accepted(), service.tokens(2, "b")])
    with pytest.raises(DataLossError):
        await client.generate("hello").result()


async def test_cancel_ends_the_stream_without_an_error(service: Any, client: AsyncClient) -> None:
    ended = service.finished(1, pb.FINISH_REASON_CANCELLED)
    events = [service.accepted(), service.tokens(1, "a"), service.hold, ended]
    service.script("Generate", events)

    def cancel(_: Any) -> Any:
        service.released.set()
        return {"generation": service.generation()}

    service.script("CancelGeneration", cancel)
    stream = client.generate("hello")
    reader = asyncio.create_task(stream.result())
    await stream.accepted()
    await stream.cancel()
    assert (await reader).finish_reason is FinishReason.CANCELLED


@pytest.mark.parametrize("way", ["with", "for", "close", "client", "task"])
async def test_leaving_early_cancels(service: Any, target: str, way: str) -> None:
    running(service)
    async with AsyncClient(target) as client:
        stream = client.generate("hello")
        if way == "with":
            async with stream:
                await stream.accepted()
        elif way == "for":
            async for _ in stream:
                break
        elif way == "close":
            await stream.accepted()
            await stream.close()
        elif way == "client":
            await stream.accepted()
        else:
            await cancel_a_reader(stream)
    assert len(service.requests("CancelGeneration")) == 1


async def cancel_a_reader(stream: Any) -> None:
    """Cancel the task that reads a stream, as `asyncio.timeout` does."""

    async def read() -> None:
        async with stream:
            await stream.result()

    reader = asyncio.create_task(read())
    await stream.accepted()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def test_cancel_before_acceptance_finds_the_generation_by_its_key(
    service: Any, client: AsyncClient
) -> None:
    service.script("Generate", [service.hold])
    service.script("CreateGeneration", {"generation": service.generation()})
    service.script("CancelGeneration", {"generation": service.generation()})
    async with client.generate("hello"):
        pass
    (created,), (cancelled,) = (
        service.requests("CreateGeneration"),
        service.requests("CancelGeneration"),
    )
    assert created.request_id
    assert cancelled.generation_id == "gen-1"


async def test_the_timeout_is_kept(service: Any, client: AsyncClient) -> None:
    service.script("Generate", [*service.answer("a")[:2], service.hold])
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError) as caught:
        await client.generate("hello", timeout=0.3).result()
    assert time.monotonic() - began < 2
    assert caught.value.result is not None
    assert caught.value.result.text == "a"


async def test_refusals_are_typed(service: Any, client: AsyncClient) -> None:
    service.script("Generate", service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy"))
    service.script("CreateGeneration", service.Refuse(grpc.StatusCode.INVALID_ARGUMENT, "bad"))
    with pytest.raises(BusyError):
        await client.generate("hello").accepted()
    with pytest.raises(InvalidRequestError):
        await client.create("hello")


async def test_single_calls(service: Any, client: AsyncClient) -> None:
    generation = {"generation": service.generation()}
    for method in ("CreateGeneration", "GetGeneration", "CancelGeneration"):
        service.script(method, generation)
    service.script("ListGenerations", {"generations": [service.generation()]})
    service.script("ListModels", {"models": [{"name": "m"}]})
    service.script("GetModel", {"model": {"name": "m"}})
    service.script("Tokenize", {"token_ids": [1], "tokens": ["a"]})
    assert (await client.create("hello")).generation_id == "gen-1"
    assert (await client.get("gen-1")).generation_id == "gen-1"
    assert (await client.cancel("gen-1")).generation_id == "gen-1"
    assert [each.generation_id async for each in client.list()] == ["gen-1"]
    assert [model.name for model in await client.models()] == ["m"]
    assert (await client.model()).name == "m"
    assert (await client.tokenize("a")).token_ids == (1,)


async def test_follow_asks_for_what_comes_after(service: Any, client: AsyncClient) -> None:
    service.script("FollowGeneration", [service.tokens(6, "x"), service.finished(6)])
    assert await client.follow("gen-1", after=5).text() == "x"


async def test_without_any_service_it_gives_up_in_time() -> None:
    async with AsyncClient("127.0.0.1:1", connect_timeout=0.3) as client:
        with pytest.raises(UnavailableError):
            await client.generate("hello").result()


async def test_a_stream_closed_while_it_is_read_says_so(service: Any, client: AsyncClient) -> None:
    running(service)
    stream = client.generate("hello")
    chunks = aiter(stream)
    await anext(chunks)
    reader = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0)  # the reader now waits for the next event
    await stream.close()
    with pytest.raises(ClientClosedError):
        await reader


async def test_a_closed_client_says_so(target: str) -> None:
    client = AsyncClient(target)
    await client.close()
    with pytest.raises(ClientClosedError):
        client.generate("hello")
