"""Streams go on over broken connections, stopped servers and drained fronts."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from miao.v1 import generation_pb2 as pb
from miao_client import (
    Client,
    DataLossError,
    GenerationNotFoundError,
    InvalidRequestError,
    UnavailableError,
)


@pytest.fixture
def client(target: str) -> Any:
    with Client(target) as client:
        yield client


def cancelled_by_server(service: Any) -> None:
    raise service.Refuse(grpc.StatusCode.CANCELLED, "RST_STREAM with error code 8")


def test_it_breaks_again_and_again(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "0"), service.cut])
    for number in range(1, 8):
        event = service.tokens(number + 1, str(number), attempt=number)
        service.script("FollowGeneration", [event, service.cut])
    service.script("FollowGeneration", [service.finished(8)])
    assert client.generate("hello").text == "01234567"
    seen = [call.after_sequence_number for call in service.requests("FollowGeneration")]
    assert seen == list(range(1, 9))


def test_before_accepted_the_same_key_is_used_again(service: Any, client: Client) -> None:
    service.script("Generate", [service.cut], service.answer("a"))
    assert client.generate("hello").text == "a"
    first, second = service.requests("Generate")
    assert first == second
    assert first.request_id


def test_a_stream_that_ends_too_early_goes_on(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a")])
    service.script("FollowGeneration", [], [service.tokens(2, "b"), service.finished(2)])
    assert client.generate("hello").text == "ab"


def test_a_server_that_cancels_the_call_is_a_broken_connection(
    service: Any, client: Client
) -> None:
    broken = [service.accepted(), service.tokens(1, "a"), lambda: cancelled_by_server(service)]
    service.script("Generate", broken)
    service.script("FollowGeneration", [service.finished(1)])
    assert client.generate("hello").text == "a"


def test_repeated_and_straddling_events_come_through_once(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.tokens(2, "ab", 2), service.cut])
    again = [service.accepted(), service.tokens(1, "a"), service.tokens(4, "abcd", 4, attempt=2)]
    service.script("FollowGeneration", [*again, service.finished(4, attempt=2)])
    chunks = list(client.generate("hello"))
    assert [(chunk.text, chunk.token_ids) for chunk in chunks] == [("ab", (1, 2)), ("cd", (3, 4))]


def test_a_gap_is_raised_with_what_came_before(service: Any, client: Client) -> None:
    events = [service.accepted(), service.tokens(1, "a"), service.tokens(3, "c")]
    service.script("Generate", events)
    stream = client.generate("hello")
    with pytest.raises(DataLossError) as caught:
        list(stream)
    assert caught.value.result is not None
    assert caught.value.result.text == "a"
    with pytest.raises(DataLossError):
        stream.result()


def test_another_front_takes_over_when_one_is_killed(service: Any) -> None:
    targets = [service.start(), service.start()]
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("FollowGeneration", [service.tokens(2, "b", attempt=1), service.finished(2)])
    with Client(targets) as client:
        stream = client.generate("hello")
        chunks = iter(stream)
        assert next(chunks).text == "a"
        service.kill(service.targets[0])
        assert [chunk.text for chunk in chunks] == ["b"]


def test_a_target_that_is_down_is_passed_over(service: Any) -> None:
    service.script("Generate", service.answer("a"))
    with Client(f"127.0.0.1:1,{service.start()}") as client:
        assert client.generate("hello").text == "a"


def test_a_front_that_restarts_is_found_again(service: Any) -> None:
    target = service.start()
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("FollowGeneration", [service.finished(1)])
    with Client(target) as client:
        chunks = iter(client.generate("hello"))
        next(chunks)
        service.kill(service.targets[0])
        threading.Timer(0.3, service.start, [target]).start()
        assert list(chunks) == []


def test_a_draining_front_is_left(service: Any, client: Client) -> None:
    draining = error_details_pb2.ErrorInfo(reason="DRAINING")
    refusal = service.Refuse(grpc.StatusCode.UNAVAILABLE, "draining", draining)
    service.script("Generate", refusal, service.answer("a"))
    assert client.generate("hello").text == "a"


def test_an_accepted_stream_waits_while_the_service_cannot_serve(
    service: Any, client: Client
) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=100_000_000))
    refusal = service.Refuse(grpc.StatusCode.UNAVAILABLE, "no queue", retry)
    service.script("Generate", [service.accepted(), service.cut])
    service.script("FollowGeneration", refusal, refusal, [service.finished(0)])
    began = time.monotonic()
    assert client.generate("hello").text == ""
    assert time.monotonic() - began > 0.2


def test_without_any_service_it_gives_up_in_time() -> None:
    began = time.monotonic()
    with (
        Client("127.0.0.1:1", connect_timeout=0.3) as client,
        pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"),
    ):
        client.generate("hello").result()
    assert time.monotonic() - began < 2


def test_a_generation_that_is_forgotten_is_submitted_again(service: Any, client: Client) -> None:
    begun = [service.accepted(), service.tokens(1, "a"), service.tokens(2, "b"), service.cut]
    service.script("Generate", begun, service.answer("a", "b", "c"))
    service.script("FollowGeneration", service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown"))
    assert client.generate("hello").text == "abc"
    first, second = service.requests("Generate")
    assert first == second


def test_one_whose_journal_was_lost_in_mid_stream_is_submitted_again(
    service: Any, client: Client
) -> None:
    reason = error_details_pb2.ErrorInfo(reason="JOURNAL_LOST")

    def lose() -> None:
        raise service.Refuse(grpc.StatusCode.DATA_LOSS, "lost", reason)

    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.cut])
    service.script("FollowGeneration", [service.tokens(2, "b"), lose])
    service.script("Generate", service.answer("a", "b", "c"))
    assert [chunk.text for chunk in client.generate("hello")] == ["a", "b", "c"]


def test_one_that_is_then_refused_says_so(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.cut])
    service.script("FollowGeneration", service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown"))
    service.script("Generate", service.Refuse(grpc.StatusCode.INVALID_ARGUMENT, "not any more"))
    with pytest.raises(InvalidRequestError, match="not any more"):
        client.generate("hello").result()


def test_a_followed_generation_that_is_forgotten_may_be_restored(
    service: Any, client: Client
) -> None:
    unknown = service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown")
    begun = [service.accepted(), service.tokens(1, "a"), service.cut]
    rest = [service.tokens(2, "b"), service.finished(2)]
    service.script("FollowGeneration", begun, unknown, unknown, [service.cut], unknown, rest)
    assert [chunk.text for chunk in client.follow("gen-1")] == ["a", "b"]
    seen = [call.after_sequence_number for call in service.requests("FollowGeneration")]
    assert seen == [0, 1, 1, 1, 1, 1]


def test_one_that_is_never_restored_is_not_found_in_time(service: Any, target: str) -> None:
    unknown = service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown")
    service.script("FollowGeneration", [service.accepted(), service.tokens(1, "a"), service.cut])
    service.script("FollowGeneration", *[unknown] * 1000)
    began = time.monotonic()
    with (
        Client(target, reconnect_timeout=0.5) as client,
        pytest.raises(GenerationNotFoundError) as caught,
    ):
        client.follow("gen-1").result()
    assert time.monotonic() - began < 3
    assert caught.value.result is not None
    assert caught.value.result.text == "a"
    assert len(service.requests("FollowGeneration")) > 2
    assert not service.requests("Generate")


def test_one_that_was_never_seen_is_not_found_at_once(service: Any, client: Client) -> None:
    service.script("FollowGeneration", service.Refuse(grpc.StatusCode.NOT_FOUND, "unknown"))
    with pytest.raises(GenerationNotFoundError):
        client.follow("gen-1", after=7).result()
    assert len(service.requests("FollowGeneration")) == 1


def test_the_end_may_come_on_a_connection_of_its_own(service: Any, client: Client) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.cut])
    service.script("FollowGeneration", [service.finished(1, pb.FINISH_REASON_LENGTH)])
    assert client.generate("hello").result().finish_reason == "length"
