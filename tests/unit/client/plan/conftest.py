"""Fleets small enough to reason about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from miao_client.plan.calibration import Calibration, Delays, Limits
from miao_client.plan.fleet import Fleet, FleetSettings
from miao_client.plan.load import Profile, lengths, pairs_of
from miao_client.plan.outcome import Outcome
from miao_client.plan.question import Load
from miao_client.plan.step_time import StepTime

NO_LIMITS = Limits(max_batch_tokens=1 << 30)


@pytest.fixture
def server() -> Calibration:
    """A server of queueing theory: one customer at a time, for a millisecond a prompt's token."""
    limits = Limits(max_sequences=1, max_batch_tokens=1 << 30)
    return Calibration("server", StepTime(0.0, ((0, 1e-3),)), limits)


@pytest.fixture
def engine() -> Calibration:
    """An engine of few rows and little memory."""
    limits = Limits(max_sequences=8, max_batch_tokens=64, num_blocks=40, max_model_length=256)
    delays = Delays(accept=0.002, claim=0.003, deliver=0.001)
    return Calibration("engine", StepTime(0.02, ((0, 1e-4),)), limits, delays, start_seconds=10.0)


@pytest.fixture
def simulate() -> Callable[..., Outcome]:
    """Run a fleet under Poisson arrivals."""

    def run(
        calibration: Calibration,
        workers: int,
        rate: float,
        prompt: str,
        answer: str,
        seconds: float,
        **settings: Any,
    ) -> Outcome:
        pairs = pairs_of(lengths("", prompt), lengths("", answer))
        load = Load(Profile.constant(rate), pairs, seconds)
        chosen = {"backlog_limit": None, "queue_timeout": 1e9, "seed": 3, **settings}
        requests = load.requests(chosen["seed"], calibration.limits.block_size)
        return Fleet(calibration, FleetSettings(workers, **chosen), requests, seconds).run()

    return run
