"""What the driver must notice: it is worth as much as the breaches that it finds."""

from __future__ import annotations

from collections import Counter

import pytest

from miao_client import FinishReason

from . import verdict
from .failures import Event
from .observation import Expected, Fault, Observation
from .schedule import SAFE_KINDS, Kind, plan
from .specs import make_specs
from .verdict import Run

SPEC = make_specs(seed=1, count=1, most_tokens=10)[0]
EXPECTED = Expected((5, 6, 7, 8), "abcd", (), FinishReason.LENGTH, None)


def observe(*chunks: tuple[int, list[int], str]) -> Observation:
    seen = Observation(SPEC, "task", EXPECTED)
    for chunk in chunks:
        seen.take(*chunk)
    return seen


def faults(seen: Observation) -> set[Fault]:
    return {violation.fault for violation in seen.violations}


def test_the_undisturbed_output_is_no_violation() -> None:
    seen = observe((1, [5], "a"), (4, [6, 7, 8], "bcd"))
    seen.compare_whole(FinishReason.LENGTH, None)
    assert faults(seen) == set()


@pytest.mark.parametrize(
    ("chunks", "fault"),
    [
        ([(1, [5], "a"), (4, [7, 8], "cd")], Fault.LOST),
        ([(2, [5, 6], "ab"), (3, [6, 7], "bc"), (4, [8], "d")], Fault.REPEATED),
        ([(2, [5, 6], "ab"), (4, [9, 8], "cd")], Fault.DIFFERENT),
        ([(4, [5, 6, 7, 8], "abCd")], Fault.DIFFERENT),
        ([(3, [5, 6, 7], "abc")], Fault.LOST),
        ([(4, [5, 6, 7, 8], "abcd"), (5, [9], "e")], Fault.REPEATED),
    ],
)
def test_what_is_missing_again_or_other_is_a_violation(
    chunks: list[tuple[int, list[int], str]], fault: Fault
) -> None:
    seen = observe(*chunks)
    seen.compare_whole(FinishReason.LENGTH, None)
    assert fault in faults(seen)


def test_another_end_is_a_violation() -> None:
    seen = observe((4, [5, 6, 7, 8], "abcd"))
    seen.compare_whole(FinishReason.STOP, "d")
    assert faults(seen) == {Fault.DIFFERENT}


def test_a_part_must_be_the_beginning() -> None:
    seen = observe((2, [5, 6], "ab"))
    seen.compare_part()
    assert faults(seen) == set()
    seen = observe((2, [5, 7], "ac"))
    seen.compare_part()
    assert faults(seen) == {Fault.DIFFERENT}


@pytest.mark.parametrize("failed", [False, True])
def test_a_cancel_goes_astray_only_where_something_failed(failed: bool) -> None:
    seen = observe()
    seen.began, seen.ended = 100.0, 110.0
    seen.was_cancelled = seen.ran_on = True
    event = Event(Kind.FRONT_KILL, "front-0", 105.0 if failed else 50.0, 106.0 if failed else 51.0)
    verdict.check_cancelled(Run([seen], [event]))
    assert faults(seen) == (set() if failed else {Fault.DIFFERENT})


def test_a_silence_belongs_to_the_failure_that_began_it() -> None:
    first, second = (Event(Kind.ENGINE_KILL, "", 10.0), Event(Kind.CALLER_CUT, "", 12.0))
    silent, lively = observe(), observe()
    silent.arrivals = [9.0, 9.95, 14.0, 14.5]
    lively.arrivals = [9.5 + 0.25 * step for step in range(20)]
    gaps = verdict.gaps([first, second], [silent, lively])
    assert gaps[first] == [pytest.approx(4.05), 0.25]
    assert gaps[second] == [0.5, 0.25]


def test_a_seed_makes_one_plan_in_which_every_kind_has_its_turn() -> None:
    failures = plan(3, 600)
    assert failures == plan(3, 600)
    assert failures != plan(4, 600)
    counts = Counter(failure.kind for failure in failures)
    assert set(counts) == set(SAFE_KINDS)
    assert max(counts.values()) - min(counts.values()) <= 1
