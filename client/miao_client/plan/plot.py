"""A plan as a picture. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miao_client.bench import plot as bench_plot
from miao_client.plan.errors import PlanError, as_plan_error
from miao_client.plan.outcome import Moment, Outcome
from miao_client.plan.question import Slice
from miao_client.plan.sizing import Sizing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREEN, _PALE = "#2a6fdb", "#d9532c", "#2f8f5b", "#8a91a0"


def check(path: Path) -> None:
    """Make sure before the simulation that there will be a plot.

    Raises:
        PlanError: The file's kind is not known, or matplotlib is missing.
    """
    with as_plan_error():
        bench_plot.check(path)


def write_sizes(sizings: Sequence[Sizing], path: Path) -> None:
    """Workers and latencies over the rate."""
    figure = _figure()
    first, second = figure.subplots(1, 2)
    rates = [sizing.load.profile.peak for sizing in sizings]
    workers = [sizing.workers for sizing in sizings]
    first.plot(rates, workers, color=_BLUE, marker="o", markersize=4)
    _dress(first, "Workers", "requests a second", "")
    for name, colour in (("ttft", _BLUE), ("itl", _RED)):
        for percent, line in ((50, "-"), (99, "--")):
            values = [1e3 * getattr(s.outcome, name).percentile(percent) for s in sizings]
            label = f"{name} p{percent}"
            second.plot(rates, values, color=colour, linestyle=line, label=label, marker="o")
    second.legend(frameon=False, fontsize=8)
    _dress(second, "What callers get", "requests a second", "milliseconds")
    figure.savefig(path, dpi=130)


def write_run(outcome: Outcome, part: Slice, path: Path) -> None:
    """The course of a run: load and workers, queue, time to first token.

    Raises:
        PlanError: The run has no course: it follows a trace.
    """
    if not outcome.moments:
        raise PlanError("--plot draws the course of a load with a rate; a trace has none.")
    figure = _figure()
    whole = 1 / part.factor
    rows = figure.subplots(1, 3)
    _line(rows[0], outcome.moments, lambda m: m.rate * whole, "requests a second", _PALE)
    beside = rows[0].twinx()
    _line(beside, outcome.moments, lambda m: m.ready * whole, "workers ready", _BLUE)
    beside.set_ylim(bottom=0)
    _dress(rows[0], "Load (grey) and workers", "minutes", "requests a second")
    _line(rows[1], outcome.moments, lambda m: m.waiting * whole, "waiting", _RED)
    _line(rows[1], outcome.moments, lambda m: m.running * whole, "running", _GREEN)
    rows[1].legend(frameon=False, fontsize=8)
    _dress(rows[1], "Generations", "minutes", "")
    _line(rows[2], outcome.moments, lambda m: 1e3 * (m.ttft_p50 or 0), "p50", _BLUE)
    _line(rows[2], outcome.moments, lambda m: 1e3 * (m.ttft_p99 or 0), "p99", _RED)
    rows[2].legend(frameon=False, fontsize=8)
    _dress(rows[2], "Time to first token", "minutes", "milliseconds")
    figure.savefig(path, dpi=130)


def _figure() -> Figure:
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    return Figure(figsize=(11.5, 4.2), layout="constrained", facecolor="white")


def _line(
    axes: Axes,
    moments: Sequence[Moment],
    value: Callable[[Moment], float],
    label: str,
    colour: str,
) -> None:
    minutes = [moment.at / 60 for moment in moments]
    axes.plot(minutes, list(map(value, moments)), color=colour, label=label, linewidth=1.4)


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#e6e8ee", linewidth=0.8)
    axes.spines["top"].set_visible(False)
