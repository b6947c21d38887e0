"""What a worker says of itself when a cluster asks."""

from __future__ import annotations

from miao_worker.health import WorkerHealth


def test_a_worker_is_ready_once_its_model_is_loaded_and_while_it_takes_work() -> None:
    health, takes_work = WorkerHealth(), [True, False]
    assert not health.is_ready
    health.serve(lambda: takes_work.pop(0))
    assert health.is_ready
    assert not health.is_ready


def test_a_loop_that_stands_still_is_dead_and_one_that_has_not_begun_is_not() -> None:
    now = 1000.0
    health = WorkerHealth(lambda: now)
    assert health.is_alive  # however long the model takes to load
    health.turn("loop")
    health.turn("keeper")
    now += 119
    health.turn("loop")
    assert health.is_alive
    now += 2
    assert not health.is_alive  # the keeper
    health.turn("keeper")
    assert health.is_alive
