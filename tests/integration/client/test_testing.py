"""The fake service that users test their programs with."""

from __future__ import annotations

import threading
import time

import pytest

from miao_client import (
    AlreadyExistsError,
    BusyError,
    Client,
    FinishReason,
    GenerationCancelledError,
    GenerationFailedError,
    GenerationNotFoundError,
    GenerationState,
    InvalidRequestError,
    ModelNotFoundError,
    UnavailableError,
    UnsupportedError,
)
from miao_client.testing import (
    Cut,
    End,
    Fail,
    FakeService,
    Pause,
    Say,
    Wait,
    broken,
    busy,
    invalid,
    unavailable,
)
from miao_client.tools import ToolCallDelta

pytest_plugins = ["miao_client.testing.plugin"]


def test_a_stream_goes_on_where_it_was_cut(miao_service: FakeService) -> None:
    miao_service.will_say("one ", Cut(), "two ", "three ", Cut(), Cut(), "four")
    with miao_service.client() as client:
        result = client.generate("count").result()
    assert result.text == "one two three four"
    assert result.token_ids == (1, 2, 3, 4)
    methods = [call.method for call in miao_service.calls]
    assert methods == ["Generate", "FollowGeneration", "FollowGeneration", "FollowGeneration"]
    assert miao_service.requests("FollowGeneration")[0].after_sequence_number == 1


def test_a_generation_can_be_followed_got_and_listed_after_its_end(
    miao_service: FakeService,
) -> None:
    miao_service.will_say("a", "b", End(FinishReason.LENGTH))
    with miao_service.client() as client:
        created = client.create("x")
        assert client.follow(created.generation_id).text == "ab"
        assert client.follow(created.generation_id, after=1).text == "b"
        got = client.get(created.generation_id, include_output=True)
        assert got.state is GenerationState.FINISHED
        assert got.ending is not None
        assert got.ending.reason is FinishReason.LENGTH
        assert got.output is not None
        assert (got.output.text, got.output.token_ids) == ("ab", (1, 2))
        assert [each.generation_id for each in client.list()] == [created.generation_id]
        with pytest.raises(GenerationNotFoundError):
            client.get("another")


def test_the_same_request_id_is_one_generation(miao_service: FakeService) -> None:
    miao_service.will_say("once")
    with miao_service.client() as client:
        first = client.generate("x", request_id="key").result()
        again = client.generate("x", request_id="key").result()
        assert first.generation_id == again.generation_id
        with pytest.raises(AlreadyExistsError):
            client.generate("y", request_id="key").result()


def test_refusals_are_the_errors_of_the_sdk(miao_service: FakeService) -> None:
    miao_service.will_refuse(busy(retry_after=2.5, limits={"model:m": "the backlog is full"}))
    miao_service.will_refuse(invalid("spec.top_p", "must be at most 1"))
    miao_service.will_refuse(unavailable())
    miao_service.will_refuse(broken())
    miao_service.will_say("a")
    with miao_service.client() as client:
        with pytest.raises(BusyError) as full:
            client.generate("x").result()
        assert full.value.retry_after == 2.5
        assert full.value.limits[0].subject == "model:m"
        with pytest.raises(InvalidRequestError) as wrong:
            client.create("x", top_p=2)
        assert wrong.value.violations[0].field == "spec.top_p"
        with pytest.raises(UnavailableError):
            client.generate("x").result()
        assert client.generate("x").text == "a"  # a broken connection is tried again
        with pytest.raises(UnsupportedError, match="will_say"):
            client.generate("x").result()
        with pytest.raises(ModelNotFoundError):
            client.generate("x", model="other").result()


def test_a_generation_may_fail_after_it_was_accepted(miao_service: FakeService) -> None:
    miao_service.will_say("a", Fail("out of memory", "RESOURCE_EXHAUSTED"), "never")
    with miao_service.client() as client, pytest.raises(GenerationFailedError) as failed:
        client.generate("x").result()
    assert failed.value.reason == "RESOURCE_EXHAUSTED"
    assert failed.value.result is not None
    assert failed.value.result.text == "a"


def test_what_waits_can_be_cancelled(miao_service: FakeService) -> None:
    miao_service.will_say("a", Wait(threading.Event()), "never")
    with miao_service.client() as client:
        stream = client.generate("x")
        chunks = iter(stream)
        assert next(chunks).text == "a"
        stream.cancel()
        assert list(chunks) == []
        assert stream.result().finish_reason is FinishReason.CANCELLED


def test_leaving_a_stream_cancels(miao_service: FakeService) -> None:
    miao_service.will_say("a", Wait(threading.Event()), "never")
    with miao_service.client() as client:
        with client.generate("x") as stream:
            assert next(iter(stream)).text == "a"
        miao_service.last_generation.wait()
        assert miao_service.last_generation.is_cancelled
        with pytest.raises(GenerationCancelledError):
            client.follow(miao_service.last_generation.id).result()


def test_an_event_lets_it_go_on_and_pauses_are_real(miao_service: FakeService) -> None:
    go = threading.Event()
    miao_service.will_say("a", Wait(go), Pause(0.05), "b")
    with miao_service.client() as client:
        stream = iter(client.generate("x"))
        assert next(stream).text == "a"
        begun = time.monotonic()
        go.set()
        assert next(stream).text == "b"
        assert time.monotonic() - begun >= 0.05


def test_several_answers_thoughts_calls_and_logprobs(miao_service: FakeService) -> None:
    call = ToolCallDelta(0, "call00001", "weather", '{"city": "北京"}')
    miao_service.will_say(Say(reasoning="hm"), Say("Hi", top={"Hi": -0.5, "Ho": -1.0}))
    miao_service.will_say(Say(call=call), Say("only the second", answer=1))
    with miao_service.client() as client:
        thought = client.generate("x", logprobs=2).result()
        assert (thought.reasoning, thought.text) == ("hm", "Hi")
        assert [top.text for top in thought.logprobs[1].top] == ["Hi", "Ho"]
        both = client.generate("x", n=2, temperature=1).result()
    assert [answer.text for answer in both.answers] == ["", "only the second"]
    assert [answer.tool_calls[0].arguments["city"] for answer in both.answers] == ["北京"] * 2


def test_other_calls_have_answers_too_or_scripts(miao_service: FakeService) -> None:
    miao_service.script("Rerank", {"results": [{"index": 1, "score": 0.5}]})
    with miao_service.client() as client:
        assert client.model().name == "fake"
        assert client.tokenize("hé").tokens == ("h", "é")
        one, other, same = client.embed(["a", "b", "a"]).vectors
        assert one == same != other
        assert client.rerank("q", ["x", "y"]).results[0].document == "y"
        with pytest.raises(UnsupportedError):
            client.classify("x")


async def test_an_asynchronous_client_goes_on_at_another_address(
    miao_service: FakeService,
) -> None:
    go = threading.Event()
    miao_service.always_says("a", Wait(go), "b")
    other = miao_service.start()
    async with miao_service.async_client() as client:
        assert client.settings.targets == (miao_service.target,)
    with Client([miao_service.target, other]) as client:
        stream = iter(client.generate("x"))
        assert next(stream).text == "a"
        miao_service.kill(miao_service.target)
        go.set()
        assert [chunk.text for chunk in stream] == ["b"]
