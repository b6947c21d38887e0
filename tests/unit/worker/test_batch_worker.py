"""What the worker overrides of RQ's."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions

from miao_worker import batch_worker
from miao_worker.batch_worker import BatchWorker


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Any:
    """RQ's thread that hears commands, at the moment when it meets an error."""
    monkeypatch.setattr(batch_worker, "_LISTEN_AGAIN_SECONDS", 0.0)
    worker = BatchWorker.__new__(BatchWorker)
    return lambda error: worker._pubsub_exception_handler(error, None, None)


@pytest.mark.parametrize(
    "error", [exceptions.ConnectionError(), exceptions.TimeoutError(), ConnectionResetError()]
)
def test_commands_are_heard_again_after_a_host_was_gone_or_silent(
    listening: Any, error: Exception
) -> None:
    listening(error)


def test_a_fault_of_ours_is_not_passed_over(listening: Any) -> None:
    with pytest.raises(ValueError, match="ours"):
        listening(ValueError("ours"))
