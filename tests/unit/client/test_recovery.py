"""When a failed call is tried again, and for how long."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from miao_client import BusyError, InternalError, ModelNotFoundError, UnavailableError
from miao_client.failures import Failure
from miao_client.recovery import MOST_BACKOFF_SECONDS, Recovery
from miao_client.settings import Settings
from miao_client.tls import Tls

BROKEN = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")


def refusal(seconds: int, code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED) -> Failure:
    packed = Packed()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds)))
    return Failure(code, "busy", status_pb2.Status(details=[packed]))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def recovery(clock: Clock, settings: Settings | None = None, draw: float = 1.0) -> Recovery:
    return Recovery(settings or Settings(), ModelNotFoundError, clock, lambda: draw)


def test_the_wait_doubles_up_to_a_limit() -> None:
    patient = recovery(Clock(), Settings(connect_timeout=1000))
    waits = [patient.next_try(BROKEN, accepted=False) for _ in range(9)]
    assert waits[:4] == [0.05, 0.1, 0.2, 0.4]
    assert waits[-1] == MOST_BACKOFF_SECONDS


def test_the_wait_has_jitter() -> None:
    assert recovery(Clock(), draw=0.5).next_try(BROKEN, accepted=False) == 0.025


@pytest.mark.parametrize(("accepted", "patience"), [(False, 5), (True, 30)])
def test_patience_is_longer_once_accepted(accepted: bool, patience: float) -> None:
    clock = Clock()
    patient = recovery(clock)
    patient.next_try(BROKEN, accepted=accepted)
    clock.now += patience - 1
    patient.next_try(BROKEN, accepted=accepted)
    clock.now += 1
    with pytest.raises(UnavailableError, match="Socket closed"):
        patient.next_try(BROKEN, accepted=accepted)


def test_progress_renews_patience() -> None:
    clock = Clock()
    patient = recovery(clock)
    for _ in range(5):
        assert patient.next_try(BROKEN, accepted=False) == 0.05
        clock.now += 4
        patient.progressed()


def test_a_refusal_is_raised_at_once() -> None:
    with pytest.raises(BusyError) as caught:
        recovery(Clock()).next_try(refusal(3), accepted=False)
    assert caught.value.retry_after == 3


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_a_refusal_is_waited_for_where_allowed(code: grpc.StatusCode) -> None:
    clock = Clock()
    patient = recovery(clock, Settings(wait_when_busy=10), draw=0.0)
    assert patient.next_try(refusal(3, code), accepted=False) == 3
    clock.now += 3
    assert patient.next_try(refusal(7, code), accepted=False) == 7
    clock.now += 7
    with pytest.raises((BusyError, UnavailableError)):
        patient.next_try(refusal(1, code), accepted=False)


def test_a_wait_that_would_be_in_vain_is_not_begun() -> None:
    with pytest.raises(BusyError):
        recovery(Clock(), Settings(wait_when_busy=10)).next_try(refusal(11), accepted=False)


def test_an_accepted_generation_outlasts_a_refusal() -> None:
    assert recovery(Clock(), draw=0.0).next_try(refusal(3), accepted=True) == 3


@pytest.mark.parametrize("accepted", [False, True])
def test_callers_that_are_told_the_same_moment_come_back_apart_and_none_before_it(
    accepted: bool,
) -> None:
    settings = Settings(wait_when_busy=60)
    drawn = [number / 100 for number in range(101)]
    waits = [
        recovery(Clock(), settings, draw).next_try(refusal(6), accepted=accepted) for draw in drawn
    ]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (6, 7.5)
    assert len(set(waits)) == len(waits)
    far = recovery(Clock(), settings).next_try(refusal(24), accepted=accepted)
    assert far == 24 + MOST_BACKOFF_SECONDS


def test_who_would_be_patient_until_the_moment_that_is_told_comes_by_the_end_of_its_patience() -> (
    None
):
    patient = recovery(Clock(), Settings(wait_when_busy=10))
    assert patient.next_try(refusal(9), accepted=False) == 10


@pytest.mark.parametrize("accepted", [False, True])
def test_other_failures_are_final(accepted: bool) -> None:
    with pytest.raises(InternalError):
        recovery(Clock()).next_try(Failure(grpc.StatusCode.INTERNAL, "a bug"), accepted=accepted)


CLOSED = Failure(
    grpc.StatusCode.UNAVAILABLE,
    "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:1.2.3.4:5: Socket closed",
)


@pytest.mark.parametrize(
    ("tls", "hint"),
    [
        (None, "Does it want TLS"),
        (Tls("roots"), "Does it want a certificate of yours"),
        (Tls("roots", "certificate", "key"), "roots that the service does not trust"),
    ],
)
def test_a_connection_that_is_closed_at_once_brings_a_guess_at_what_is_wrong(
    tls: Tls | None, hint: str
) -> None:
    with pytest.raises(UnavailableError, match=hint):
        recovery(Clock(), Settings(connect_timeout=0, tls=tls)).next_try(CLOSED, accepted=False)


@pytest.mark.parametrize("message", ["Socket closed", "failed to connect: Connection refused"])
def test_other_ends_of_a_connection_are_told_as_they_are(message: str) -> None:
    failure = Failure(grpc.StatusCode.UNAVAILABLE, message)
    with pytest.raises(UnavailableError) as caught:
        recovery(Clock(), Settings(connect_timeout=0)).next_try(failure, accepted=False)
    assert caught.value.message.endswith(message)
