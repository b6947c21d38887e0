"""`miao top`: what one glance at the screen says."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from miao_client.cli.top_view import fleet_rate, view
from miao_client.fleet import Fleet, FleetModel, FleetWorker, TenantQueue

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)


def worker(name: str = "w1", **changes: Any) -> FleetWorker:
    values: dict[str, Any] = {
        "name": name,
        "model": "tiny",
        "start_time": NOW - timedelta(hours=3),
        "is_draining": False,
        "num_generations": 4,
        "num_running": 4,
        "max_running": 64,
        "num_waiting": 0,
        "cache_usage": 0.25,
        "prompt_tokens": 1000,
        "cached_prompt_tokens": 400,
        "output_tokens": 9000,
        "output_tokens_per_second": 120.0,
        "num_ended": 1234,
        "num_takeovers": 0,
        "num_engine_restarts": 0,
        "first_token_ms_p50": 41,
        "first_token_ms_p95": 1800,
    }
    return FleetWorker(**(values | changes))


def fleet(*workers: FleetWorker, queues: tuple[TenantQueue, ...] = (), **changes: Any) -> Fleet:
    model = FleetModel("tiny", len(workers), sum(queue.num_waiting for queue in queues))
    return Fleet(NOW, (model,), workers, queues)


def screen(shown: Fleet, rates: tuple[float, ...] = (100.0,)) -> str:
    console = Console(file=io.StringIO(), width=130, color_system=None)
    console.print(view(shown, rates, "front:50051"))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_the_first_line_sums_the_fleet_up() -> None:
    text = screen(
        fleet(worker(num_takeovers=2), worker("w2", num_engine_restarts=1)), (50.0, 1234.0)
    )
    for part in ("2 workers", "8 running", "0 queued", "1,234 tokens/s", "2 takeovers"):
        assert part in text
    assert "1 restarts" in text
    assert "front:50051" in text


def test_a_worker_shows_its_fill_and_its_times() -> None:
    text = screen(fleet(worker(num_running=32, cache_usage=0.955)))
    line = next(line for line in text.splitlines() if line.startswith("w1"))
    assert "█████····· 32/64" in line
    assert "█████████▌" in line
    assert "96%" in line
    assert "41 ms" in line
    assert "1.8 s" in line
    assert "1,234" in line
    assert line.rstrip().endswith("3 h")


def test_a_model_shows_what_its_workers_do_together() -> None:
    text = screen(fleet(worker(), worker("w2", first_token_ms_p50=None)))
    line = next(line for line in text.splitlines() if line.startswith("tiny"))
    assert line.split() == ["tiny", "2", "8", "0", "240", "41", "ms", "40%"]


def test_queues_are_shown_by_tenant_where_something_waits() -> None:
    assert "TENANT" not in screen(fleet(worker()))
    queues = tuple(TenantQueue(f"t{i}", "tiny", 20 - i, 65_000) for i in range(12))
    text = screen(fleet(worker(), queues=queues))
    assert "t0" in text
    assert "65 s" in text
    assert "t11" not in text
    assert "and 2 more" in text


def test_a_worker_that_drains_says_so() -> None:
    assert "w1 drains" in screen(fleet(worker(is_draining=True)))


def test_an_empty_fleet_is_no_error() -> None:
    text = screen(Fleet(NOW, (), (), ()), ())
    assert "0 workers" in text


@pytest.mark.parametrize("rates", [(), (0.0,), (1.0, 2.0, 3.0), tuple(range(100))])
def test_the_history_fits_on_the_screen(rates: tuple[float, ...]) -> None:
    assert all(len(line) <= 130 for line in screen(fleet(worker()), rates).splitlines())


def test_the_rate_is_what_was_said_between_two_looks() -> None:
    before = fleet(worker(output_tokens=100), worker("gone", output_tokens=70))
    after = Fleet(
        NOW + timedelta(seconds=2),
        before.models,
        (worker(output_tokens=300), worker("new", output_tokens=5000)),
        (),
    )
    assert fleet_rate(before, after) == 100
    assert fleet_rate(None, after) == 240
