"""A short run of chaos, as part of the tests; `make chaos` is the long one."""

from __future__ import annotations

from pathlib import Path

from . import driver
from .driver import ChaosSettings
from .schedule import Kind


async def test_no_generation_is_lost_and_no_token_comes_twice(tmp_path: Path) -> None:
    outcome = await driver.run(
        ChaosSettings(
            seed=57,  # the worker first, each of the five once
            seconds=14,
            folder=tmp_path,
            num_callers=8,
            num_specs=8,
            most_tokens=240,
            kinds=(
                Kind.ENGINE_KILL,
                Kind.WORKER_KILL,
                Kind.FRONT_KILL,
                Kind.REDIS_KILL,
                Kind.CALLER_CUT,
            ),
            pause_seconds=(1.5, 3.5),
        )
    )
    assert not outcome.violations, outcome.report
