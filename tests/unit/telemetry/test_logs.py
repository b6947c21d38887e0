"""What a line of the log holds, and what it never does."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from miao_queue.telemetry import logs
from miao_queue.telemetry.logs import LogSettings, configure

SECRET = "the caller's own words"
_log = logging.getLogger("miao_service.somewhere")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """All that is logged, as JSON; the handlers of the tests' own are put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure(LogSettings("json", "debug"), stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_its_ids(written: io.StringIO) -> None:
    _log.info("ended after %d steps", 3, extra={"generation": "g1", "tenant": "a", "attempt": 2})
    (line,) = lines(written)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "ended after 3 steps",
        "level": "info",
        "logger": "miao_service.somewhere",
        "generation": "g1",
        "tenant": "a",
        "attempt": 2,
    }


def test_a_field_that_is_not_on_the_list_is_left_out(written: io.StringIO) -> None:
    _log.info("ended", extra={"prompt": SECRET, "reason": "stop"})
    (line,) = lines(written)
    assert line["reason"] == "stop"
    assert SECRET not in written.getvalue()


def test_an_exception_tells_its_kind_and_place_alone(written: io.StringIO) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        _log.exception("it failed")
    (line,) = lines(written)
    assert line["fault"].startswith("ValueError at ")
    assert "test_logs.py:" in line["fault"]
    assert SECRET not in written.getvalue()


async def test_a_task_that_nobody_awaits_does_not_tell_what_failed(written: io.StringIO) -> None:
    async def fail() -> None:
        raise ValueError(SECRET)

    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": ValueError(SECRET)}
    )
    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    context = {"message": "Task exception was never retrieved", "task": task}
    asyncio.get_running_loop().call_exception_handler(context | {"exception": task.exception()})
    said = [line["event"] for line in lines(written) if line["level"] == "error"]
    assert said == ["Task exception was never retrieved"] * 2
    assert SECRET not in written.getvalue()


def test_people_get_a_line_that_they_can_read() -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    try:
        configure(LogSettings("console", "info"), stream)
        _log.debug("not said")
        _log.warning("Redis does not answer", extra={"worker": "w1"})
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    said = stream.getvalue()
    assert said.count("\n") == 1
    for part in ("warning", "Redis does not answer", "worker=w1"):
        assert part in said


def test_a_file_gets_json_unless_told_otherwise() -> None:
    formatter = logs._formatter("auto", is_terminal=False)
    record = logging.LogRecord("miao_worker", logging.INFO, __file__, 1, "hello", None, None)
    assert json.loads(formatter.format(record))["event"] == "hello"
