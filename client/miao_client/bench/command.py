"""What `miao bench` does with its options. It needs rich, as the command does."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from miao_client.aio.client import AsyncClient
from miao_client.bench import document, plot, tables
from miao_client.bench.arrivals import read_trace
from miao_client.bench.course import Course
from miao_client.bench.errors import SettingsError
from miao_client.bench.settings import Settings, Slo, check_folder, loads_of
from miao_client.bench.sweep import Report, Sweep
from miao_client.bench.workload import Workload
from miao_client.cli import output

_Number = TypeVar("_Number", int, float)
_STATUSES = {signal.SIGINT: output.INTERRUPTED, signal.SIGTERM: output.TERMINATED}
_WRONG_ARGUMENT = 2


@dataclass(frozen=True, slots=True)
class Results:
    """Where the figures go, besides stdout.

    Raises:
        SettingsError: They could not be written.
    """

    json: Path | None = None
    records: bool = False  # each request's figures too
    plot: Path | None = None

    def __post_init__(self) -> None:
        """Find out before the measuring, not after."""
        if self.records and self.json is None:
            raise SettingsError("--records needs --json FILE, where they are written.")
        check_folder("--json", self.json)
        check_folder("--plot", self.plot)
        if self.plot:
            plot.check(self.plot)

    def measured(self, report: Report) -> None:
        """Write and print the last load: the next cannot lose it."""
        if self.json:
            document.write(report, self.json, with_records=self.records)
        tables.write_point(report.points[-1])

    def finish(self, report: Report) -> None:
        """Print and draw all loads."""
        if len(report.points) > 1:
            tables.write_summary(report)
        if self.plot:
            plot.write(report, self.plot)


def settings(
    *,
    concurrency: str | None,
    rate: str | None,
    arrivals: Path | None,
    seed: int | None,
    slo: Slo,
    **others: Any,
) -> Settings:
    """The settings that options say; a list has commas.

    Raises:
        SettingsError: They make no sense.
    """
    loads = loads_of(
        _numbers("--concurrency", concurrency, int),
        _numbers("--rate", rate, float),
        read_trace(arrivals) if arrivals else None,
    )
    seed = secrets.randbits(32) if seed is None else seed
    return Settings(loads=loads, seed=seed, slo=slo, **others)


def run(target: str | None, model: str | None, settings: Settings, results: Results) -> int:
    """Measure, and report; returns the exit status.

    Raises:
        SettingsError: The model does not fit the settings.
        MiaoError: The service does not say what the model is.
    """
    report = asyncio.run(_measure(target, model, settings, results))
    results.finish(report)
    if report.interrupted:
        return _STATUSES[report.interrupted]
    return int(not any(point.metrics.completed for point in report.points))


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what makes no sense into one line on stderr and the exit status 2."""
    try:
        yield
    except SettingsError as error:
        typer.echo(f"miao: {error}", err=True)
        raise typer.Exit(_WRONG_ARGUMENT) from None


async def _measure(
    target: str | None, model: str | None, settings: Settings, results: Results
) -> Report:
    async with AsyncClient(target, model=model, timeout=settings.timeout) as client:
        found = await client.model()
        workload = Workload(settings, found)
        sweep = Sweep(client, settings, found, workload, keep_records=results.records)
        tables.write_head(sweep.report)
        return await sweep.run(Course(settings).watch, results.measured)


def _numbers(option: str, text: str | None, kind: type[_Number]) -> list[_Number] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise SettingsError(
            f"{option} must be {numbers} with commas between, not {text!r}."
        ) from None
