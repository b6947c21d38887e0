"""Streams of the synchronous client over real connections."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from miao.v1 import generation_pb2 as pb
from miao_client import (
    Client,
    ClientClosedError,
    DeadlineExceededError,
    FinishReason,
    GenerationCancelledError,
    GenerationFailedError,
)


@pytest.fixture
def client(target: str) -> Any:
    with Client(target) as client:
        yield client


def cancelling(service: Any) -> None:
    """Script a generation that runs until it is cancelled."""
    asked = threading.Event()

    def cancel(request: Any) -> Any:
        asked.set()
        return {"generation": service.generation()}

    def wait() -> None:
        asked.wait(10)

    ended = service.finished(1, pb.FINISH_REASON_CANCELLED)
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), wait, ended])
    service.script("CancelGeneration", cancel)


def test_a_stream_yields_each_chunk(service: Any, client: Client) -> None:
    service.script("Generate", service.answer("为", "什么", "？"))
    assert [chunk.text for chunk in client.generate("你好")] == ["为", "什么", "？"]


def test_a_chunk_comes_when_its_event_does(service: Any, client: Client) -> None:
    events = service.answer("a", "b")
    service.script("Generate", [*events[:2], service.hold, *events[2:]])
    chunks = iter(client.generate("hello"))
    assert next(chunks).text == "a"
    service.released.set()
    assert next(chunks).text == "b"


def test_a_result_holds_everything(service: Any, client: Client) -> None:
    service.script("Generate", service.answer("a", "b"))
    result = client.generate("hello").result()
    assert (result.text, result.token_ids, result.attempts) == ("ab", (1, 2), 1)
    assert result.finish_reason is FinishReason.STOP
    assert (result.generation_id, result.request_id) == ("gen-1", "r")
    assert (result.model, result.seed) == ("m", 7)
    assert result.usage is not None
    assert result.usage.output_tokens == 2
    assert result.timings is not None
    assert result.timings.total_seconds == 1.5
    assert result.timings.first_token_seconds is None


def test_a_result_may_be_asked_for_midway_and_again(service: Any, client: Client) -> None:
    service.script("Generate", service.answer("a", "b"))
    stream = client.generate("hello")
    assert stream.generation_id == "gen-1"
    assert stream.result() == stream.result()
    assert stream.text == "ab"
    assert list(stream) == []


def test_the_id_comes_before_the_first_token(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    with client.generate("hello") as stream:
        assert stream.generation_id == "gen-1"


def test_cancel_ends_the_stream_without_an_error(service: Any, client: Client) -> None:
    cancelling(service)
    stream = client.generate("hello")
    chunks = iter(stream)
    next(chunks)
    stream.cancel()
    assert list(chunks) == []
    assert stream.result().finish_reason is FinishReason.CANCELLED
    assert stream.text == "a"


def test_cancel_from_another_thread_while_reading(service: Any, client: Client) -> None:
    cancelling(service)
    stream = client.generate("hello")
    threading.Timer(0.1, stream.cancel).start()
    assert stream.result().finish_reason is FinishReason.CANCELLED


def test_cancel_before_acceptance_finds_the_generation_by_its_key(
    service: Any, client: Client
) -> None:
    service.script("Generate", [service.hold])
    service.script("CreateGeneration", {"generation": service.generation()})
    service.script("CancelGeneration", {"generation": service.generation()})
    with client.generate("hello"):
        service.wait_for_call("Generate")  # or it is left before it was sent
    (created,), (sent,) = service.requests("CreateGeneration"), service.requests("Generate")
    assert (created.request_id, created.spec) == (sent.request_id, sent.spec)
    assert service.requests("CancelGeneration")[0].generation_id == "gen-1"


@pytest.mark.parametrize("way", ["with", "for", "close", "client"])
def test_leaving_early_cancels(service: Any, target: str, way: str) -> None:
    cancelling(service)
    with Client(target) as client:
        stream = client.generate("hello")
        if way == "with":
            with stream:
                assert stream.generation_id
        elif way == "for":
            for _ in stream:
                break
        else:
            assert stream.generation_id
            if way == "close":
                stream.close()
    (request,) = service.requests("CancelGeneration")
    assert request.generation_id == "gen-1"
    assert stream.result().finish_reason is None


def test_leaving_early_does_not_cancel_where_asked_to_continue(
    service: Any, client: Client
) -> None:
    service.script("Generate", [service.accepted(), service.hold])
    with client.generate("hello", on_disconnect="continue") as stream:
        assert stream.generation_id
    assert not service.requests("CancelGeneration")


def test_leaving_a_followed_generation_lets_it_be(service: Any, client: Client) -> None:
    service.script("FollowGeneration", [service.accepted(), service.tokens(1, "a"), service.hold])
    for chunk in client.follow("gen-1"):
        assert chunk.text == "a"
        break
    assert not service.requests("CancelGeneration")


def test_leaving_after_the_end_cancels_nothing(service: Any, client: Client) -> None:
    service.script("Generate", service.answer("a"))
    with client.generate("hello") as stream:
        stream.result()
    assert not service.requests("CancelGeneration")


def test_follow_asks_for_what_comes_after(service: Any, client: Client) -> None:
    service.script("FollowGeneration", [service.tokens(6, "x"), service.finished(6)])
    result = client.follow("gen-1", after=5).result()
    assert (result.text, result.generation_id, result.model) == ("x", "gen-1", None)
    assert service.requests("FollowGeneration")[0].after_sequence_number == 5


def test_somebody_elses_cancellation_is_an_error(service: Any, client: Client) -> None:
    events = service.answer("a")[:2]
    service.script("Generate", [*events, service.finished(1, pb.FINISH_REASON_CANCELLED)])
    with pytest.raises(GenerationCancelledError) as caught:
        client.generate("hello").result()
    assert caught.value.result is not None
    assert caught.value.result.text == "a"


def test_a_generation_that_failed_raises_after_its_chunks(service: Any, client: Client) -> None:
    error = pb.GenerationError(code=13, message="The engine failed three times.")
    events = service.answer("a")[:2]
    service.script("Generate", [*events, service.finished(1, pb.FINISH_REASON_ERROR, error=error)])
    chunks = iter(client.generate("hello"))
    assert next(chunks).text == "a"
    with pytest.raises(GenerationFailedError, match="three times") as caught:
        next(chunks)
    assert caught.value.reason == "INTERNAL"


def test_the_timeout_is_sent_twice_and_kept(service: Any, client: Client) -> None:
    service.script("Generate", [*service.answer("a")[:2], service.hold])
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError) as caught:
        client.generate("hello", timeout=0.3).result()
    assert time.monotonic() - began < 2
    assert caught.value.result is not None
    assert caught.value.result.text == "a"
    assert service.requests("Generate")[0].spec.timeout.ToMilliseconds() == 300
    remaining = service.calls[0].seconds_left
    assert remaining < 0.4


def test_the_timeout_holds_over_broken_connections(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.cut])
    service.script("FollowGeneration", *[[lambda: time.sleep(0.05), service.cut]] * 99)
    began = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        client.generate("hello", timeout=0.5).result()
    assert time.monotonic() - began < 2


def test_the_service_may_say_first_that_time_is_over(service: Any, client: Client) -> None:
    ended = service.finished(0, pb.FINISH_REASON_DEADLINE_EXCEEDED)
    service.script("Generate", [service.accepted(), ended])
    with pytest.raises(DeadlineExceededError) as caught:
        client.generate("hello", timeout=5).result()
    assert caught.value.result is not None
    assert caught.value.result.finish_reason is FinishReason.DEADLINE_EXCEEDED


def test_many_threads_share_a_client(service: Any, client: Client) -> None:
    service.script("Generate", *[service.answer("a", "b", "c")] * 6)
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(client.generate("hello").text))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["abc"] * 6


def test_a_stream_closed_while_it_is_read_says_so(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    stream = client.generate("hello")
    assert stream.generation_id
    threading.Timer(0.1, stream.close).start()
    with pytest.raises(ClientClosedError):
        stream.result()


def test_a_closed_client_says_so(target: str) -> None:
    client = Client(target)
    client.close()
    with pytest.raises(ClientClosedError):
        client.generate("hello")
    with pytest.raises(ClientClosedError):
        client.models()


def test_closing_a_client_in_use_raises_nothing_else(service: Any, target: str) -> None:
    service.script("ListModels", *[{"models": []}] * 3000)
    service.script("Generate", *[service.answer("a")] * 3000)
    client = Client(target)
    ends: list[Exception] = []

    def use() -> None:
        try:
            while True:
                client.models()
                client.generate("hello").result()
        except Exception as error:  # whatever it is
            ends.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    client.close()
    for thread in threads:
        thread.join()
    assert [type(end) for end in ends] == [ClientClosedError] * 4
