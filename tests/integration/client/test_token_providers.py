"""Tokens that end while calls and streams go on."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from miao_client import (
    AsyncClient,
    AsyncTokenProvider,
    AuthenticationError,
    Client,
    InvalidRequestError,
    TokenProvider,
)
from miao_client.testing import unauthenticated


def numbered() -> TokenProvider:
    numbers = count(1)
    return TokenProvider(lambda: f"token-{next(numbers)}")


def numbered_async() -> AsyncTokenProvider:
    numbers = count(1)

    async def fetch() -> str:
        await asyncio.sleep(0)
        return f"token-{next(numbers)}"

    return AsyncTokenProvider(fetch)


def keys(service: Any) -> list[str]:
    return [call.metadata["authorization"].removeprefix("Bearer token-") for call in service.calls]


def test_a_rejected_token_is_fetched_anew_once(service: Any, target: str) -> None:
    service.script("ListModels", {}, unauthenticated(), {}, unauthenticated(), unauthenticated())
    with Client(target, api_key=numbered(), retry_budget=0) as client:
        client.models()
        client.models()
        with pytest.raises(AuthenticationError):
            client.models()
    assert keys(service) == ["1", "1", "2", "2", "3"]


def test_a_stream_goes_on_with_a_new_token(service: Any, target: str) -> None:
    service.script(
        "Generate", unauthenticated(), [service.accepted(), service.tokens(1, "a"), service.cut]
    )
    service.script(
        "FollowGeneration", unauthenticated(), [service.tokens(2, "b"), service.finished(2)]
    )
    with Client(target, api_key=numbered()) as client:
        assert client.generate("hello").text == "ab"
    assert keys(service) == ["1", "2", "2", "3"]


async def test_so_does_one_of_the_asynchronous_client(service: Any, target: str) -> None:
    service.script(
        "Generate", unauthenticated(), [service.accepted(), service.tokens(1, "a"), service.cut]
    )
    service.script(
        "FollowGeneration", unauthenticated(), [service.tokens(2, "b"), service.finished(2)]
    )
    service.script("ListModels", unauthenticated(), {})
    async with AsyncClient(target, api_key=numbered_async()) as client:
        assert await client.generate("hello").text() == "ab"
        await client.models()
    assert keys(service) == ["1", "2", "2", "3", "3", "4"]


async def test_many_streams_wait_for_one_token(service: Any, target: str) -> None:
    service.script("Generate", *(service.answer("a") for _ in range(8)))
    async with AsyncClient(target, api_key=numbered_async()) as client:
        streams = [client.generate("hello") for _ in range(8)]
        assert await asyncio.gather(*(each.text() for each in streams)) == ["a"] * 8
    assert keys(service) == ["1"] * 8


async def test_a_generation_is_sent_at_once_as_soon_as_there_is_a_token(
    service: Any, target: str
) -> None:
    service.script("Generate", service.answer("a"))
    async with AsyncClient(target, api_key=numbered_async()) as client:
        stream = client.generate("hello")  # and is not read
        await asyncio.to_thread(service.wait_for_call, "Generate")
        assert await stream.text() == "a"


async def test_a_provider_for_threads_serves_the_asynchronous_client(
    service: Any, target: str
) -> None:
    service.script("ListModels", {})
    service.script("Generate", service.answer("a"))
    async with AsyncClient(target, api_key=numbered()) as client:
        assert await client.generate("hello").text() == "a"
        await client.models()
    assert keys(service) == ["1", "1"]


async def test_an_issuer_that_is_down_is_said_and_asked_again(service: Any, target: str) -> None:
    service.script("Generate", service.answer("a"))
    answers: list[Any] = [OSError("down"), "token-1"]

    async def fetch() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    async with AsyncClient(target, api_key=AsyncTokenProvider(fetch)) as client:
        stream = client.generate("hello")
        with pytest.raises(AuthenticationError, match="OSError"):
            await stream.text()
        assert await stream.text() == "a"


async def test_a_stream_may_be_left_before_its_token_is_there(service: Any, target: str) -> None:
    never = asyncio.Event()

    async def fetch() -> str:
        await never.wait()
        return ""

    async with AsyncClient(target, api_key=AsyncTokenProvider(fetch)) as client:
        stream = client.generate("hello", on_disconnect="continue")
        await asyncio.sleep(0)
        await stream.close()
    assert service.calls == []


def test_a_client_for_threads_takes_no_asynchronous_provider(target: str) -> None:
    with pytest.raises(InvalidRequestError, match="api_key"):
        Client(target, api_key=numbered_async())  # type: ignore[arg-type]
