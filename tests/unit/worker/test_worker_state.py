"""What a worker says of itself to those who watch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from miao_worker.engine.types import EngineStats, StepOutput
from miao_worker.metrics import WorkerMetrics
from miao_worker.worker_state import WorkerState


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock) -> tuple[WorkerState, WorkerMetrics]:
    metrics = WorkerMetrics("m", clock=clock)
    settings: Any = SimpleNamespace(
        name="w", model_name="m", engine=SimpleNamespace(max_sequences=8)
    )
    return WorkerState(settings, metrics, 5_000, clock), metrics


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    clock = Clock()
    state, metrics = made(clock)
    assert state.message(0, is_draining=False).output_tokens_per_second == 0
    for _ in range(30):
        clock.now += 1
        metrics.note_tokens("m", 20, None, 1)
        message = state.message(1, is_draining=False)
    assert message.output_tokens_per_second == 20
    for _ in range(11):
        clock.now += 1
        message = state.message(0, is_draining=False)
    assert message.output_tokens_per_second == 0
    assert message.output_tokens == 600


def test_first_tokens_are_those_of_the_last_minute() -> None:
    clock = Clock()
    state, metrics = made(clock)
    assert not state.message(0, is_draining=False).HasField("first_token_ms_p50")
    metrics.recent_first_token_ms += [(clock.now, 9_000)]
    clock.now += 50
    metrics.recent_first_token_ms += [(clock.now, ms) for ms in range(1, 101)]
    clock.now += 20
    message = state.message(0, is_draining=False)
    assert (message.first_token_ms_p50, message.first_token_ms_p95) == (51, 96)
    clock.now += 60
    assert not state.message(0, is_draining=False).HasField("first_token_ms_p95")


def test_the_batch_and_the_cache_are_those_of_the_last_step() -> None:
    state, metrics = made(Clock())
    stats = EngineStats(num_running=3, num_waiting=2, num_blocks=10, num_free_blocks=4)
    metrics.note_steps([StepOutput((), stats)])
    message = state.message(4, is_draining=True)
    assert (message.num_running, message.max_running, message.num_waiting) == (3, 8, 2)
    assert message.cache_usage == 0.6
    assert message.is_draining
    assert message.start_time.ToMilliseconds() == 5_000
    assert state.message(0, is_draining=False).num_running == 0
