"""Interceptors of users, on calls and on streams."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from miao_client import AsyncClient, BusyError, Client, InvalidRequestError, UnavailableError
from miao_client.testing import broken, busy

SHORT = {"ListModels": "list", "Generate": "generate", "FollowGeneration": "follow"}
SHORT["CancelGeneration"] = "cancel"


class Log(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Writes down each call with its key, and adds to its metadata."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self.noted(details), request)

    intercept_unary_stream = intercept_unary_unary

    def noted(self, details: Any) -> Any:
        method = SHORT[details.method.rpartition("/")[2]]
        metadata = dict(details.metadata)
        self.seen.append(f"{self.name} {method} {metadata['authorization'].split()[1]}")
        metadata["x-order"] = metadata.get("x-order", "") + self.name
        return details._replace(metadata=tuple(metadata.items()))


class AsyncLog(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, name: str, seen: list[str]) -> None:
        self.log = Log(name, seen)

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        name = details.method.decode() if isinstance(details.method, bytes) else details.method
        changed = self.log.noted(details._replace(method=name))
        return await continuation(changed._replace(method=details.method), request)

    intercept_unary_stream = intercept_unary_unary


EXPECTED = [
    *("a list k", "b list k"),
    *("a list k", "b list k"),  # each try
    *("a generate k", "b generate k"),
    *("a follow k", "b follow k"),  # each connection of a stream
]


def script(service: Any) -> None:
    service.script("ListModels", broken(), {}, busy())
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.cut])
    service.script("FollowGeneration", [service.tokens(2, "b"), service.finished(2)])


def test_they_see_each_try_with_the_key_the_first_outermost(service: Any, target: str) -> None:
    script(service)
    seen: list[str] = []
    with Client(target, api_key="k", interceptors=[Log("a", seen), Log("b", seen)]) as client:
        client.models()
        assert client.generate("hello").text == "ab"
        assert seen == EXPECTED
        assert {call.metadata["x-order"] for call in service.calls} == {"ab"}
        with pytest.raises(BusyError):
            client.models()


async def test_so_do_those_of_the_asynchronous_client(service: Any, target: str) -> None:
    script(service)
    seen: list[str] = []
    around = [AsyncLog("a", seen), AsyncLog("b", seen)]
    async with AsyncClient(target, api_key="k", interceptors=around) as client:
        await client.models()
        assert await client.generate("hello").text() == "ab"
        assert seen == EXPECTED
        assert {call.metadata["x-order"] for call in service.calls} == {"ab"}
        with pytest.raises(BusyError):
            await client.models()


def test_a_stream_through_them_is_left_as_any_other(service: Any, target: str) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    with Client(target, api_key="k", interceptors=[Log("a", [])]) as client:
        with client.generate("hello") as stream:
            assert next(iter(stream)).text == "a"
        service.wait_for_call("CancelGeneration")


async def test_an_asynchronous_stream_too(service: Any, target: str) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    async with AsyncClient(target, api_key="k", interceptors=[AsyncLog("a", [])]) as client:
        async with client.generate("hello") as stream:
            async for chunk in stream:
                assert chunk.text == "a"
                break
        assert service.requests("CancelGeneration")


def test_one_that_is_of_the_other_kind_is_refused(target: str) -> None:
    with pytest.raises(InvalidRequestError, match="interceptors"):
        Client(target, interceptors=[AsyncLog("a", [])])  # type: ignore[list-item]
    with pytest.raises(InvalidRequestError, match="interceptors"):
        AsyncClient(target, interceptors=[Log("a", [])])  # type: ignore[list-item]


def test_a_service_that_is_away_is_said_through_them_too() -> None:
    around = [Log("a", [])]
    with (
        Client("127.0.0.1:1", api_key="k", connect_timeout=0, interceptors=around) as client,
        pytest.raises(UnavailableError, match="in 0 seconds"),
    ):
        client.models()
