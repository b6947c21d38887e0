"""Streams of the synchronous client over real connections."""

from __future__ import annotations

from typing import Any

import pytest

from miao_client import Client, FinishReason


@pytest.fixture
def client(target: str) -> Any:
    with Client(target) as client:
        yield client


def test_a_stream_yields_each_chunk(service: Any, client: Client) -> None:
    service.script("Generate", service.answer("为", "什么", "？"))
    assert [chunk.text for chunk in client.generate("你好")] == ["为", "什么", "？"]


def test_a_result_holds_everything(service: Any, client: Client) -> None:
    service.script("Generate", service.answer("a", "b"))
    result = client.generate("hello").result()
    assert (result.text, result.token_ids) == ("ab", (1, 2))
    assert result.finish_reason is FinishReason.STOP
    assert (result.generation_id, result.model, result.seed) == ("gen-1", "m", 7)
    assert result.usage is not None
    assert result.usage.output_tokens == 2
    assert result.timings is not None
    assert result.timings.total_seconds == 1.5


def test_a_broken_stream_goes_on_where_it_was(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.cut])
    service.script("FollowGeneration", [service.tokens(2, "b", attempt=2), service.finished(2)])
    result = client.generate("hello").result()
    assert (result.text, result.attempts) == ("ab", 2)
    (follow,) = service.requests("FollowGeneration")
    assert (follow.generation_id, follow.after_sequence_number) == ("gen-1", 1)
