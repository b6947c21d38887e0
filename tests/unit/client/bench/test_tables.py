"""What people are told."""

from __future__ import annotations

from typing import Any

import pytest

from miao_client.bench import tables
from miao_client.bench.loads import Closed, Poisson
from miao_client.bench.metrics import Metrics, summarize
from miao_client.bench.records import Record
from miao_client.bench.settings import Slo
from miao_client.bench.sweep import Point


def metrics(send_delay: float = 0.0, ttft: float = 0.02) -> Metrics:
    """Of one request that left so late, and whose first token then took so long to come."""
    record = Record(intended=0.0, sent=send_delay, ended=1.0)
    record.chunk_times.append(ttft)
    record.chunk_sizes.append(1)
    return summarize([record], Slo())


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (Point(Closed(1), metrics()), []),
        (Point(Closed(1), metrics(), generator_cpu=0.93), ["used 93% of a core"]),
        (Point(Closed(1), metrics(), num_warmup_failed=2), ["2 requests of the warm-up failed"]),
        (Point(Poisson(1.0), metrics(send_delay=0.015)), ["up to 15 ms late (p99)"]),
        (Point(Poisson(1.0), metrics(send_delay=0.015, ttft=0.5)), []),  # it does not show
        (Point(Poisson(1.0), metrics(send_delay=0.009)), []),
    ],
)
def test_what_makes_figures_doubtful_is_said(point: Point, words: list[str]) -> None:
    said = list(tables.warnings(point))
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))


def test_a_load_without_an_answer_is_its_failures_alone(capsys: Any) -> None:
    tables.write_point(Point(Closed(2), summarize([], Slo()), num_unfinished=2))
    assert capsys.readouterr().out == (
        "\nconcurrency 2: 0 completed, 0 failed, 2 cancelled in 0.00 s\n"
    )
