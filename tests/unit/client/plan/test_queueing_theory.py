"""The fleet against what queueing theory says of its simplest forms.

A worker with one row, whose prompts take time in proportion to their tokens and whose answers
are one token, is the server of a textbook.
"""

from __future__ import annotations

from math import factorial

import pytest

from miao_client.plan.calibration import Calibration, Limits
from miao_client.plan.step_time import StepTime

MEAN_SECONDS = 1.0  # of service: 1,000 tokens


def erlang_c(servers: int, load: float) -> float:
    """How likely a customer has to wait (Erlang 1917); load: arrivals in a time of service."""
    top = load**servers / factorial(servers) * servers / (servers - load)
    return top / (sum(load**k / factorial(k) for k in range(servers)) + top)


def test_one_server_with_random_service_waits_as_m_m_1(server, simulate):
    outcome = simulate(server, 1, 0.6, "exponential:1000", "1", 25_000)
    assert outcome.queued.mean == pytest.approx(0.6 / (1 - 0.6), rel=0.05)
    # P(wait > t) = rho exp(-(1 - rho) t): the p90 is at ln(rho / 0.1) / (1 - rho).
    assert outcome.queued.percentile(90) == pytest.approx(4.479, rel=0.06)


def test_one_server_with_equal_service_waits_half_as_long_as_m_d_1(server, simulate):
    outcome = simulate(server, 1, 0.6, "1000", "1", 25_000)
    assert outcome.queued.mean == pytest.approx(0.6 / (2 * (1 - 0.6)), rel=0.05)


@pytest.mark.parametrize("servers", [2, 4])
def test_several_workers_at_one_queue_wait_as_m_m_c(server, simulate, servers):
    rate = 0.7 * servers
    outcome = simulate(server, servers, rate, "exponential:1000", "1", 12_000)
    expected = erlang_c(servers, rate) * MEAN_SECONDS / (servers - rate)
    assert outcome.queued.mean == pytest.approx(expected, rel=0.08)


def test_a_full_waiting_room_loses_as_m_m_1_k(server, simulate):
    outcome = simulate(server, 1, 0.9, "exponential:1000", "1", 15_000, backlog_limit=3)
    rho, places = 0.9, 4  # one served, three that wait
    lost = (1 - rho) * rho**places / (1 - rho ** (places + 1))
    assert outcome.refused / outcome.arrived == pytest.approx(lost, rel=0.06)


def test_rows_that_never_fill_hold_as_many_as_littles_law_says(simulate):
    # Steps of equal length whatever is in them: a request of 20 tokens is in 20 steps.
    limits = Limits(max_sequences=10_000, max_batch_tokens=1 << 30)
    calibration = Calibration("steps", StepTime(0.05), limits)
    outcome = simulate(calibration, 1, 12.0, "16", "20", 600, warmup=100.0)
    # 19 of them as a row that decodes.
    assert outcome.mean_rows == pytest.approx(12.0 * 19 * 0.05, rel=0.02)
    assert outcome.itl.percentile(50) == pytest.approx(0.05, rel=0.01)
