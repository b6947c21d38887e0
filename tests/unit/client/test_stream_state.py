"""The course of a stream over broken calls, without a transport."""

from __future__ import annotations

import dataclasses
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.rpc import error_details_pb2, status_pb2

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as service_pb
from miao_client import errors, methods
from miao_client.failures import Failure
from miao_client.options import submission
from miao_client.settings import Settings
from miao_client.stream_state import StreamState

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")
ACCEPTED = pb.GenerationEvent(accepted=pb.Accepted(generation_id="g"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def generate_state(timeout: float | None = None, clock: Any = Clock()) -> StreamState:  # noqa: B008
    return StreamState(
        Settings(), submission("hello", request_id="key"), timeout=timeout, clock=clock
    )


def receive(state: StreamState, event: pb.GenerationEvent) -> Any:
    return state.receive(service_pb.GenerateResponse(event=event))


def finish(state: StreamState, reason: int, **fields: Any) -> None:
    finished = pb.Finished(reason=reason, **fields)
    receive(state, pb.GenerationEvent(sequence_number=1, finished=finished))


def token(number: int, says: int | None = None, digest: int = 0) -> pb.GenerationEvent:
    tokens = pb.Tokens(text="a", token_ids=[number if says is None else says])
    return pb.GenerationEvent(sequence_number=number, tokens=tokens, output_digest=digest)


def test_before_acceptance_the_same_request_is_sent_again() -> None:
    state = generate_state()
    first = state.next_call()
    state.failed(BROKEN)
    assert state.next_call() == first
    assert (first.method, first.request.request_id) == (methods.GENERATE, "key")


def test_after_acceptance_the_stream_is_followed_from_the_last_token() -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    receive(state, token(1))
    state.failed(BROKEN)
    call = state.next_call()
    assert call.method is methods.FOLLOW
    assert call.request == service_pb.FollowGenerationRequest(
        generation_id="g", after_sequence_number=1
    )


def test_each_call_has_the_time_that_is_left() -> None:
    clock = Clock()
    state = generate_state(timeout=10, clock=clock)
    assert state.next_call().timeout == 10
    clock.now = 4
    assert state.next_call().timeout == 6
    clock.now = 11
    with pytest.raises(errors.DeadlineExceededError):
        state.next_call()


def lost(code: grpc.StatusCode = grpc.StatusCode.DATA_LOSS, reason: str = "") -> Failure:
    packed = Packed()
    packed.Pack(error_details_pb2.ErrorInfo(reason=reason))
    return Failure(code, "lost", status_pb2.Status(details=[packed]))


ELSEWHERE = lost(grpc.StatusCode.UNAVAILABLE, "SHARD_UNAVAILABLE")


def test_an_id_of_our_own_is_exchanged_where_its_part_of_the_queue_is_down() -> None:
    state = generate_state()
    assert state.submission is not None
    state.submission = dataclasses.replace(state.submission, draws_id=True)
    first: Any = state.next_call().request
    assert state.failed(ELSEWHERE) == 0.0
    second: Any = state.next_call().request
    assert second.request_id != first.request_id
    assert second.spec == first.spec
    state.failed(BROKEN)  # from here on it may be known
    with pytest.raises(errors.UnavailableError):
        state.failed(ELSEWHERE)


def test_an_id_of_the_callers_is_kept() -> None:
    state = generate_state()
    assert state.submission is not None
    state.submission = dataclasses.replace(state.submission, draws_id=False)
    with pytest.raises(errors.UnavailableError):
        state.failed(ELSEWHERE)


FORGOTTEN = [lost(grpc.StatusCode.NOT_FOUND, "GENERATION_NOT_FOUND"), lost(reason="JOURNAL_LOST")]


def test_following_says_which_output_was_seen() -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    receive(state, token(1, digest=77))
    state.failed(BROKEN)
    assert state.next_call().request == service_pb.FollowGenerationRequest(
        generation_id="g", after_sequence_number=1, output_digest=77
    )


@pytest.mark.parametrize("failure", FORGOTTEN)
def test_a_generation_that_the_service_forgot_is_submitted_again(failure: Failure) -> None:
    state = generate_state()
    first = state.next_call()
    receive(state, ACCEPTED)
    receive(state, token(1))
    state.failed(failure)
    assert state.next_call() == first
    state.failed(BROKEN)  # not accepted again yet
    assert state.next_call() == first
    receive(state, ACCEPTED)
    assert receive(state, token(1)) is None
    assert receive(state, token(2)).token_ids == (2,)
    state.failed(BROKEN)
    assert state.next_call().method is methods.FOLLOW
    assert state.result().text == "aa"


def test_one_that_is_made_again_differently_is_data_loss() -> None:
    state = generate_state()
    for event in (ACCEPTED, token(1), token(2)):
        receive(state, event)
    state.failed(FORGOTTEN[0])
    receive(state, ACCEPTED)
    receive(state, token(1))
    with pytest.raises(errors.DataLossError, match="something else") as caught:
        receive(state, token(2, says=9))
    assert caught.value.result is not None
    assert caught.value.result.token_ids == (1, 2)


def test_one_that_is_forgotten_again_and_again_is_data_loss() -> None:
    clock = Clock()
    state = generate_state(clock=clock)
    for event in (ACCEPTED, token(1)):
        receive(state, event)

    def accept_and_forget() -> None:
        for _ in range(1000):
            clock.now += state.failed(FORGOTTEN[0])
            receive(state, ACCEPTED)

    with pytest.raises(errors.DataLossError) as caught:
        accept_and_forget()
    assert 20 < clock.now <= 30
    assert caught.value.result is not None
    assert caught.value.result.text == "a"


def test_one_that_was_cancelled_and_forgotten_is_not_submitted_again() -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    state.cancelled()
    state.failed(FORGOTTEN[0])
    assert state.over


def give_up_after(state: StreamState, clock: Clock, failure: Failure) -> tuple[float, Exception]:
    """How long it goes on when each call fails alike, and with what it ends."""
    began = clock.now

    def fail_on() -> None:
        for _ in range(1000):
            clock.now += state.failed(failure)

    with pytest.raises(errors.MiaoError) as caught:
        fail_on()
    return clock.now - began, caught.value


@pytest.mark.parametrize("failure", FORGOTTEN)
def test_a_stream_that_only_follows_waits_for_others_to_restore_it(failure: Failure) -> None:
    clock = Clock()
    state = StreamState(Settings(), generation_id="g", clock=clock)
    receive(state, ACCEPTED)
    receive(state, token(1))
    patience, error = give_up_after(state, clock, failure)
    assert 4 < patience <= 5
    assert isinstance(error, errors.GenerationNotFoundError | errors.DataLossError)
    assert state.over


def test_that_wait_begins_when_the_service_answers_again() -> None:
    clock = Clock()
    state = StreamState(Settings(), generation_id="g", clock=clock)
    receive(state, ACCEPTED)
    state.failed(FORGOTTEN[0])
    while clock.now < 20:  # no worker can restore it in a Redis that is away
        clock.now += state.failed(BROKEN)
    patience, _ = give_up_after(state, clock, FORGOTTEN[0])
    assert 4 < patience <= 5


def test_a_generation_of_which_nothing_has_come_is_not_awaited() -> None:
    state = StreamState(Settings(), generation_id="g", after=3)
    with pytest.raises(errors.GenerationNotFoundError):
        state.failed(FORGOTTEN[0])


def test_an_unknown_model_is_not_data_loss() -> None:
    with pytest.raises(errors.ModelNotFoundError):
        generate_state().failed(Failure(grpc.StatusCode.NOT_FOUND, "no such model"))


def test_an_unknown_generation_to_follow_is_not_found() -> None:
    state = StreamState(Settings(), generation_id="g")
    with pytest.raises(errors.GenerationNotFoundError):
        state.failed(Failure(grpc.StatusCode.NOT_FOUND, "unknown"))


@pytest.mark.parametrize(
    ("reason", "fields", "kind"),
    [
        (pb.FINISH_REASON_CANCELLED, {}, errors.GenerationCancelledError),
        (pb.FINISH_REASON_DEADLINE_EXCEEDED, {}, errors.DeadlineExceededError),
        (
            pb.FINISH_REASON_ERROR,
            {"error": pb.GenerationError(code=13, message="engine failed")},
            errors.GenerationFailedError,
        ),
        (
            pb.FINISH_REASON_ERROR,
            {"error": pb.GenerationError(code=15, message="journal lost")},
            errors.DataLossError,
        ),
    ],
)
def test_an_end_otherwise_than_well_is_an_error_with_what_came(
    reason: int, fields: dict[str, Any], kind: type[errors.MiaoError]
) -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    receive(state, token(1))
    with pytest.raises(kind) as caught:
        finish(state, reason, **fields)
    assert state.over
    assert caught.value.result is not None
    assert (caught.value.result.text, caught.value.result.generation_id) == ("a", "g")


def test_a_failed_generation_says_its_kind() -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    receive(state, token(1))
    with pytest.raises(errors.GenerationFailedError, match="engine failed") as caught:
        finish(
            state,
            pb.FINISH_REASON_ERROR,
            error=pb.GenerationError(code=13, message="engine failed"),
        )
    assert caught.value.reason == "INTERNAL"


@pytest.mark.parametrize("reason", [pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH, 99])
def test_other_ends_are_no_errors(reason: int) -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    receive(state, token(1))
    finish(state, reason)
    assert state.over
    assert state.error is None


def test_an_own_cancellation_just_ends() -> None:
    state = generate_state()
    receive(state, ACCEPTED)
    receive(state, token(1))
    state.cancelled()
    finish(state, pb.FINISH_REASON_CANCELLED)
    assert state.over
    assert state.result().finish_reason == "cancelled"


def test_a_refused_request_that_was_cancelled_is_not_sent_again() -> None:
    state = generate_state()
    state.cancelled()
    assert state.failed(BROKEN) == 0
    assert state.over
