"""Throughput against latency over a sweep. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Closed, Load, Poisson
from miao_client.bench.metrics import Distribution
from miao_client.bench.sweep import Point, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = (".png", ".svg", ".pdf")
_INK, _PALE = "#1f2430", "#8a91a0"
_LINES = (("p50", "#2a6fdb", "-", "o"), ("p99", "#d9532c", "--", "s"))
_LOG_FROM = 30.0  # the ratio of the largest to the least latency that a straight axis still shows


def check(path: Path) -> None:
    """Make sure before the measuring that there will be a plot.

    Raises:
        SettingsError: The file's kind is not known, or matplotlib is missing.
    """
    if path.suffix not in KINDS:
        raise SettingsError(f"--plot must end in {', '.join(KINDS)}, not {path.name}.")
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError:
        raise SettingsError(
            "--plot needs matplotlib, which comes with its extra: pip install 'miao[bench]'"
        ) from None


def write(report: Report, path: Path) -> None:
    """Draw the loads that completed anything; without any there is nothing to draw."""
    from matplotlib.figure import Figure  # not pyplot: no window, no global state
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    points = [point for point in report.points if point.metrics.completed]
    if not points:
        return
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.14)
    figure = Figure(figsize=(10.5, 4.8), layout=layout, facecolor="white")
    first, second = figure.subplots(1, 2)
    _panel(first, "Time to first token", points, lambda point: point.metrics.ttft)
    _panel(second, "Time per output token", points, lambda point: point.metrics.tpot)
    first.legend(frameon=False, labelcolor=_INK, loc="best", handlelength=3.2)
    figure.suptitle(_title(report), x=0.014, ha="left", fontsize=11, color=_INK)
    figure.savefig(path, dpi=160)


def _panel(
    axes: Axes, name: str, points: Sequence[Point], latency: Callable[[Point], Distribution | None]
) -> None:
    from matplotlib.patheffects import withStroke

    shown = [(point, spread) for point in points if (spread := latency(point)) is not None]
    throughput = [point.metrics.output_tokens_per_second for point, _ in shown]
    for percentile, colour, line, marker in _LINES:
        values = [1000 * getattr(spread, percentile) for _, spread in shown]
        axes.plot(
            throughput,
            values,
            color=colour,
            label=percentile,
            linestyle=line,
            linewidth=1.8,
            marker=marker,
            markersize=5.0,
        )
    for x, (point, spread) in zip(throughput, shown, strict=True):
        axes.annotate(
            _label(point.load),
            (x, 1000 * spread.p99),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
    _dress(axes, name, [spread for _, spread in shown])


def _dress(axes: Axes, name: str, spreads: Sequence[Distribution]) -> None:
    axes.set_title(name, loc="left", fontsize=11, fontweight="bold", color=_INK)
    axes.set_xlabel("output tokens a second", color=_INK)
    axes.set_ylabel("milliseconds", color=_INK)
    axes.margins(x=0.08, y=0.16)
    axes.set_xlim(left=0)
    least = min((spread.p50 for spread in spreads), default=0.0)
    most = max((spread.p99 for spread in spreads), default=0.0)
    if least > 0 and most / least > _LOG_FROM:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(visible=True, color="#e6e8ee", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_PALE)
    axes.tick_params(colors=_PALE, labelcolor=_INK, labelsize=9)


def _label(load: Load) -> str:
    match load:
        case Closed(concurrency):
            return str(concurrency)
        case Poisson(rate):
            return f"{rate:g}/s"
    return load.label


def _title(report: Report) -> str:
    settings = report.settings
    kind = (
        f"{settings.prompts} prompts of {settings.input_tokens} tokens"
        if settings.prompts in ("random", "shared-prefix")
        else f"prompts of {Path(settings.prompts).name}"
    )
    limit = "exactly" if settings.ignore_eos else "at most"
    loads = "callers at once" if isinstance(settings.loads[0], Closed) else "load offered"
    return (
        f"{report.model.name} · {kind}, {limit} {settings.output_tokens} out · "
        f"beside each point: {loads}"
    )
