"""How many failed calls are tried again, and which of them cost nothing."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from miao_client import (
    AuthenticationError,
    BusyError,
    ModelNotFoundError,
    TokenProvider,
    UnavailableError,
)
from miao_client.failures import Failure
from miao_client.recovery import MOST_BACKOFF_SECONDS, Recovery
from miao_client.retry_budget import RetryBudget
from miao_client.settings import Settings

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")
UNSENT = Failure(
    grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: refused"
)
BUSY = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
REJECTED = Failure(grpc.StatusCode.UNAUTHENTICATED, "the credentials have expired")


def pushed_back(milliseconds: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Failure:
    return Failure(code, "busy", pushback=milliseconds)


def recovery(budget: RetryBudget, **settings: float) -> Recovery:
    patient = Settings(connect_timeout=1e6, reconnect_timeout=1e6, **settings)  # type: ignore[arg-type]
    return Recovery(patient, ModelNotFoundError, lambda: 0.0, lambda: 1.0, budget)


def spend(budget: RetryBudget) -> int:
    """How many retries it still gives."""
    return next(number for number in range(10_000) if not budget.take())


def test_a_bucket_is_spent_and_refilled_by_what_succeeds() -> None:
    budget = RetryBudget(3, 0.5)
    assert spend(budget) == 3
    budget.succeeded()
    assert not budget.take()
    budget.succeeded()
    assert spend(budget) == 1


def test_a_bucket_holds_no_more_than_at_its_beginning() -> None:
    budget = RetryBudget(2, 1)
    for _ in range(10):
        budget.succeeded()
    assert spend(budget) == 2


def test_calls_of_one_client_share_their_retries() -> None:
    budget = RetryBudget(2)
    first, second = recovery(budget), recovery(budget)
    first.next_try(BROKEN, accepted=False)
    second.next_try(BROKEN, accepted=False)
    with pytest.raises(UnavailableError, match=r"within the retry budget: Socket closed"):
        first.next_try(BROKEN, accepted=False)


def test_retries_stay_a_share_of_the_calls_while_a_service_fails() -> None:
    budget = RetryBudget(10, 0.1)
    retries = 0
    for number in range(1000):
        call = recovery(budget)
        if number % 2:
            call.progressed()
        else:
            try:
                call.next_try(BROKEN, accepted=False)
                retries += 1
            except UnavailableError:
                pass
    assert 10 + 45 <= retries <= 10 + 50


@pytest.mark.parametrize("failure", [UNSENT, pushed_back("250")])
def test_what_puts_no_load_on_the_service_unasked_is_free(failure: Failure) -> None:
    budget = RetryBudget(0)
    recovery(budget, wait_when_busy=60).next_try(failure, accepted=False)


def test_a_refusal_that_does_not_say_when_to_return_costs_a_retry() -> None:
    patient = recovery(RetryBudget(1), wait_when_busy=1e6)
    patient.next_try(BUSY, accepted=False)
    with pytest.raises(BusyError):
        patient.next_try(BUSY, accepted=False)


def test_a_stream_that_is_cut_where_it_has_brought_something_costs_nothing() -> None:
    budget = RetryBudget(1)
    stream = recovery(budget)
    for _ in range(5):
        stream.progressed()
        stream.next_try(BROKEN, accepted=True)
    stream.next_try(BROKEN, accepted=True)  # this one had brought nothing
    assert spend(budget) == 0


def test_a_stream_goes_on_slowly_without_a_budget() -> None:
    stream = recovery(RetryBudget(0))
    stream.progressed()
    assert stream.next_try(BROKEN, accepted=True) < MOST_BACKOFF_SECONDS / 2
    waits = [stream.next_try(BROKEN, accepted=True) for _ in range(20)]
    assert min(waits) >= MOST_BACKOFF_SECONDS / 2


def test_pushback_comes_before_the_details_and_in_milliseconds() -> None:
    packed = Packed()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=9)))
    details = status_pb2.Status(details=[packed])
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert Failure(code, "", details, "1500").retry_after == 1.5
    assert Failure(code, "", details).retry_after == 9


@pytest.mark.parametrize("text", ["-1", "soon", "", "１"])
@pytest.mark.parametrize("accepted", [False, True])
def test_a_pushback_that_is_no_time_forbids_a_retry(text: str, accepted: bool) -> None:
    with pytest.raises(UnavailableError):
        recovery(RetryBudget(), wait_when_busy=60).next_try(pushed_back(text), accepted=accepted)


@pytest.mark.parametrize(
    ("message", "is_unsent"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: x", True),
        ("connections to all backends failing; last error: ipv4:127.0.0.1:1: unhealthy", True),
        ("errors resolving nowhere.invalid:1: [field:hostname lookup error]", True),
        ("DNS resolution failed for nowhere.invalid:1", True),
        ("Socket closed", False),
    ],
)
def test_it_is_known_whether_anything_was_sent(message: str, is_unsent: bool) -> None:
    assert Failure(grpc.StatusCode.UNAVAILABLE, message).is_unsent is is_unsent
    assert not Failure(grpc.StatusCode.INTERNAL, message).is_unsent


def test_a_token_that_is_rejected_is_renewed_once_until_something_comes() -> None:
    settings = Settings(api_key=TokenProvider(lambda: "t"), retry_budget=0)
    stream = Recovery(settings, ModelNotFoundError)
    assert stream.next_try(REJECTED, accepted=False) == 0
    with pytest.raises(AuthenticationError):
        stream.next_try(REJECTED, accepted=False)
    stream.progressed()
    assert stream.next_try(REJECTED, accepted=True) == 0


@pytest.mark.parametrize("key", [None, "k", lambda: "k"])
def test_a_key_that_is_no_providers_is_not_shown_again(key: object) -> None:
    settings = Settings(api_key=key)  # type: ignore[arg-type]
    with pytest.raises(AuthenticationError):
        Recovery(settings, ModelNotFoundError).next_try(REJECTED, accepted=False)
