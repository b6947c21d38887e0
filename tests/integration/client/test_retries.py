"""Retries over a real channel: what they cost, and what servers say about them."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from miao_client import AsyncClient, BusyError, Client, UnavailableError
from miao_client.failures import Failure
from miao_client.testing import Refuse, broken

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def test_all_calls_of_a_client_share_its_retries(service: Any, target: str) -> None:
    with Client(target, retry_budget=2, retry_ratio=0.5) as client:
        other = client.with_options(model="m")
        service.script("ListModels", broken(), {}, broken(), {}, broken())
        assert client.models() == other.models() == ()  # one left: two went, two halves came
        service.script("ListModels", broken())
        with pytest.raises(UnavailableError, match="within the retry budget"):
            client.models()
        assert len(service.requests("ListModels")) == 6


def test_a_stream_is_resumed_without_a_budget(service: Any, target: str) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.cut])
    service.script("FollowGeneration", [service.cut], [service.tokens(2, "b"), service.finished(2)])
    with Client(target, retry_budget=0) as client:
        stream = client.generate("hello")
        waits: list[float] = []
        stream._transport.sleep = waits.append  # type: ignore[method-assign]
        assert stream.text == "ab"
        assert waits[0] < 0.05  # at once, since it had brought something
        assert waits[1] >= 1  # slowly, since that had not
        service.script("ListModels", broken())
        with pytest.raises(UnavailableError, match="budget"):
            client.models()


def test_a_server_says_when_to_return_or_not_to(service: Any, target: str) -> None:
    service.script("ListModels", Refuse(EXHAUSTED, "busy", pushback_ms=1), {})
    service.script("ListModels", Refuse(EXHAUSTED, "busy", pushback_ms=-1))
    with Client(target, wait_when_busy=60, retry_budget=0) as client:
        assert client.models() == ()
        with pytest.raises(BusyError):
            client.models()
    assert len(service.calls) == 3


async def test_a_server_says_so_to_the_asynchronous_client_too(service: Any, target: str) -> None:
    service.script("ListModels", Refuse(EXHAUSTED, "busy", pushback_ms=1), {}, broken())
    async with AsyncClient(target, wait_when_busy=60, retry_budget=0) as client:
        assert await client.models() == ()
        with pytest.raises(UnavailableError, match="within the retry budget"):
            await client.models()


@pytest.mark.parametrize(
    "target",
    [
        "127.0.0.1:1",
        "dns:///127.0.0.1:1",
        "ipv4:127.0.0.1:1",
        "unix:/nowhere/at-all",
        "dns:///x.invalid:1",
    ],
)
def test_grpc_says_that_it_had_no_connection_in_words_that_are_known(target: str) -> None:
    with Client(target, connect_timeout=0, retry_budget=0) as client:
        channel = client._transport._targets.current()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/miao.v1.ModelService/ListModels")(b"", timeout=10)
        assert Failure.of(caught.value).is_unsent
        with pytest.raises(UnavailableError, match="in 0 seconds"):
            client.models()
