"""A short run of chaos, as part of the tests; `make chaos` is the long one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ..conftest import redis_program
from . import driver
from .driver import ChaosSettings
from .process import ForkedProcess
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
            worker_kind=ForkedProcess,
        )
    )
    assert not outcome.violations, outcome.report


async def test_a_redis_that_loses_the_end_of_its_file_loses_no_generation(tmp_path: Path) -> None:
    if _redis_version() < 7:
        pytest.skip(
            "cuts the part that Redis writes to, which is a file of its own from Redis 7 on"
        )
    outcome = await driver.run(
        ChaosSettings(
            seed=31,
            seconds=7,
            folder=tmp_path,
            num_callers=6,
            num_specs=6,
            most_tokens=240,
            kinds=(Kind.REDIS_LOSS,),
            pause_seconds=(3.0, 4.0),
            worker_kind=ForkedProcess,
        )
    )
    assert not outcome.violations, outcome.report
    assert "redis-loss" in outcome.report


def _redis_version() -> int:
    said = subprocess.run(
        [redis_program(), "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"v=(\d+)", said.stdout)
    assert found is not None, said.stdout
    return int(found[1])
