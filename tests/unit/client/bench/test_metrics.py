"""Figures from records whose times are known."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from miao_client.bench.metrics import Distribution, meets, summarize
from miao_client.bench.records import Failed, Record
from miao_client.bench.settings import Slo


def record(
    chunks: list[tuple[float, int]], *, intended: float = 10.0, sent: float = 10.0, **fields: Any
) -> Record:
    """A request whose chunks came at these times with so many tokens."""
    times = array("d", (time for time, _ in chunks))
    fields = {"ended": times[-1] if times else sent} | fields
    sizes = array("I", (size for _, size in chunks))
    return Record(intended=intended, sent=sent, chunk_times=times, chunk_sizes=sizes, **fields)


def test_a_request_is_measured_from_when_it_was_intended() -> None:
    late = record([(12.0, 1), (13.0, 1)], sent=11.5, ended=13.5)
    assert (late.ttft, late.e2e, late.send_delay) == (2.0, 3.5, 1.5)


def test_time_per_output_token_leaves_out_the_first() -> None:
    assert record([(11.0, 1), (12.0, 1), (14.0, 1)], ended=15.0).tpot == 2.0
    assert record([(11.0, 1)], ended=15.0).tpot is None


def test_tokens_of_one_chunk_share_its_gap() -> None:
    gaps = list(record([(11.0, 2), (12.0, 1), (14.0, 4)]).gaps())
    assert gaps == [0.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert sum(gaps) == 14.0 - 11.0
    assert list(record([(11.0, 1)]).gaps()) == list(record([]).gaps()) == []


def test_percentiles_are_interpolated() -> None:
    spread = Distribution.of([4.0, None, 1.0, 3.0, 2.0])
    assert spread is not None
    assert spread.p50 == 2.5
    assert spread.p90 == pytest.approx(3.7)  # what numpy.percentile gives
    assert spread.p99 == pytest.approx(3.97)
    assert (spread.mean, spread.min, spread.max) == (2.5, 1.0, 4.0)
    assert Distribution.of([7.0]) == Distribution(*[7.0] * 6)
    assert Distribution.of([None]) is None


def test_figures_of_a_load() -> None:
    found = summarize(
        [
            record([(11.0, 1), (12.0, 1)], input_tokens=5, cached_input_tokens=2, attempts=2),
            record([(13.0, 1), (15.0, 3)], input_tokens=5, queued_seconds=0.5),
            record([], ended=20.0, failed=Failed("UNAVAILABLE", "first")),
            record([(11.0, 9)], ended=11.0, failed=Failed("UNAVAILABLE", "second")),
            record([], ended=11.0, failed=Failed("ABORTED", "other")),
        ],
        Slo(ttft=2.0),
    )
    assert found.duration == 10.0
    assert (found.completed, found.failed, found.recovered) == (2, 3, 1)
    assert found.failures == {"UNAVAILABLE": 2, "ABORTED": 1}
    assert found.failure_messages == {"UNAVAILABLE": "first", "ABORTED": "other"}
    assert (found.input_tokens, found.cached_input_tokens, found.output_tokens) == (10, 2, 6)
    assert found.requests_per_second == 0.2
    assert found.input_tokens_per_second == 1.0
    assert found.output_tokens_per_second == 0.6
    assert (found.good, found.goodput) == (1, 0.1)
    assert found.ttft is not None
    assert (found.ttft.min, found.ttft.max) == (1.0, 3.0)
    assert found.itl is not None
    assert found.itl.mean == pytest.approx((1.0 + 2.0) / 4)
    assert found.queued == Distribution(*[0.5] * 6)


def test_no_requests_and_no_slo_give_no_figures() -> None:
    found = summarize([], Slo())
    assert (found.duration, found.requests_per_second, found.goodput) == (0.0, 0.0, None)
    assert found.ttft is found.e2e is None


# Time to first token 1, gaps 1 and 3, end to end 5, time per output token 2.
ANSWER = record([(11.0, 1), (12.0, 1), (15.0, 1)])


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        (Slo(ttft=1.0, itl=3.0, tpot=2.0, e2e=5.0), True),
        (Slo(ttft=0.9), False),
        (Slo(itl=2.9), False),
        (Slo(tpot=1.9), False),
        (Slo(e2e=4.9), False),
        (Slo(ttft=1.0, e2e=4.9), False),
    ],
)
def test_a_request_is_good_when_it_meets_all_that_is_stated(slo: Slo, good: bool) -> None:
    assert meets(slo, ANSWER) is good


def test_a_short_answer_has_no_gaps_to_be_too_long() -> None:
    assert meets(Slo(itl=0.1, tpot=0.1), record([(11.0, 1)]))
    assert not meets(Slo(ttft=100.0), record([]))
