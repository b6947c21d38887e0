"""Who a client calls for: keys and metadata."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from miao_client import AsyncClient, Client, ClientClosedError, InvalidRequestError


def test_every_call_shows_the_key_and_the_metadata(service: Any, target: str) -> None:
    service.script("ListModels", {})
    service.script("Generate", [service.accepted(), service.cut])
    service.script("FollowGeneration", [service.tokens(1, "a"), service.finished(1)])
    with Client(target, api_key="secret", metadata=[("x-team", "blue")]) as client:
        client.models()
        assert client.generate("hello").text == "a"
        assert "secret" not in repr(client.settings)
    assert [call.metadata["authorization"] for call in service.calls] == ["Bearer secret"] * 3
    assert {call.metadata["x-team"] for call in service.calls} == {"blue"}


def test_the_environment_gives_a_key(
    service: Any, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAO_API_KEY", "from-outside")
    service.script("ListModels", {})
    with Client(target) as client:
        client.models()
    assert service.calls[0].metadata["authorization"] == "Bearer from-outside"


def test_a_function_is_asked_for_the_key_before_each_call(service: Any, target: str) -> None:
    service.script("ListModels", {}, {})
    numbers = count(1)
    with Client(target, api_key=lambda: f"token-{next(numbers)}") as client:
        client.models()
        client.models()
    keys = [call.metadata["authorization"] for call in service.calls]
    assert keys == ["Bearer token-1", "Bearer token-2"]


def test_a_client_with_other_options_shares_the_connections(service: Any, target: str) -> None:
    service.script("ListModels", {}, {}, {})
    service.script("Generate", service.answer("a"))
    with Client(target, api_key="own", model="m") as client:
        other = client.with_options(api_key="others", timeout=9)
        other.models()
        assert other.generate("hello").text == "a"
        other.close()
        client.models()
        with client.with_options(metadata=[("x-team", "red")]) as third:
            third.models()
    with pytest.raises(ClientClosedError):
        other.models()
    keys = [call.metadata["authorization"] for call in service.calls]
    assert keys == ["Bearer others", "Bearer others", "Bearer own", "Bearer own"]
    assert service.calls[3].metadata["x-team"] == "red"
    assert len({call.peer for call in service.calls}) == 1
    request = service.requests("Generate")[0]
    assert (request.spec.model, request.spec.timeout.seconds) == ("m", 9)


async def test_the_asynchronous_client_does_the_same(service: Any, target: str) -> None:
    service.script("ListModels", {}, {}, {})
    service.script("Generate", service.answer("a"))
    async with AsyncClient(target, api_key=lambda: "own") as client:
        await client.models()
        other = client.with_options(api_key="others", metadata=[("x-team", "red")])
        assert await other.generate("hello").text() == "a"
        await other.close()
        await client.models()
    keys = [call.metadata["authorization"] for call in service.calls]
    assert keys == ["Bearer own", "Bearer others", "Bearer own"]
    assert service.calls[1].metadata["x-team"] == "red"


def test_an_empty_key_is_none_whatever_the_environment_says(
    service: Any, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAO_API_KEY", "from-outside")
    service.script("ListModels", {})
    with Client(target, api_key="") as client:
        client.models()
    assert "authorization" not in service.calls[0].metadata


@pytest.mark.parametrize("key", ["two words", "naïve", "line\n"])
def test_a_key_that_metadata_cannot_carry_is_refused(target: str, key: str) -> None:
    with Client(target, api_key=key) as client, pytest.raises(InvalidRequestError, match="api_key"):
        client.models()
