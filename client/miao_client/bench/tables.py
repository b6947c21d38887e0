"""A report for people. It needs rich, as the command does."""

from __future__ import annotations

from collections.abc import Iterator

from miao_client.bench.metrics import Distribution, Metrics
from miao_client.bench.sweep import Point, Report
from miao_client.cli import output

_BUSY_GENERATOR = 0.8  # of a core: from here on it may be what limits
_LATE_SECONDS = 0.010  # p99 of sending: from here on lateness may show in the figures
_LATE_SHARE = 0.1  # of the median time to first token


def write_head(report: Report) -> None:
    """Print what is measured."""
    settings, model = report.settings, report.model
    made = settings.prompts in ("random", "shared-prefix")
    length = f" of {settings.input_tokens} tokens" if made else ""
    workers = f"{model.num_workers} worker{'' if model.num_workers == 1 else 's'}"
    print(
        f"{model.name} at {', '.join(report.targets)} ({workers}): "
        f"{settings.prompts} prompts{length}, "
        f"{'exactly' if settings.ignore_eos else 'at most'} {settings.output_tokens} tokens out, "
        f"seed {settings.seed}"
    )


def write_point(point: Point) -> None:
    """Print what one load has shown."""
    found = point.metrics
    print(f"\n{_heading(point)}")
    for line in _failures(point):
        print(f"  {line}")
    if not found.completed:
        return
    print(f"  {_rates(found)}\n")
    rows = (
        ("time to first token", found.ttft),
        ("  of it in the queue", found.queued),
        ("time per output token", found.tpot),
        ("inter-token latency", found.itl),
        ("end to end", found.e2e),
    )
    output.write_table(
        ["  milliseconds", "mean#", "p50#", "p90#", "p99#", "max#"],
        [(f"  {name}", *_row(spread)) for name, spread in rows if spread],
    )
    for warning in warnings(point):
        print(f"  Warning: {warning}")


def write_summary(report: Report) -> None:
    """Print all loads, one a line."""
    print()
    stated = bool(report.settings.slo.stated)
    columns = ["LOAD", "REQUESTS/S#", "OUTPUT TOKENS/S#", "TTFT P50#", "P99#", "TPOT P50#", "P99#"]
    columns += ["E2E P50#", "P99#", *(["GOODPUT#"] if stated else []), "FAILED#"]
    output.write_table(columns, [_summary_row(point, stated) for point in report.points])


def warnings(point: Point) -> Iterator[str]:
    """What makes the figures worth less than they look."""
    found = point.metrics
    if point.num_warmup_failed:
        yield f"{point.num_warmup_failed} requests of the warm-up failed."
    if point.generator_cpu > _BUSY_GENERATOR:
        yield (
            f"this generator used {point.generator_cpu:.0%} of a core and may be what limits; "
            "let several share the load."
        )
    late = found.send_delay.p99 if found.send_delay else 0.0
    ttft = found.ttft.p50 if found.ttft else 0.0
    if late > max(_LATE_SECONDS, _LATE_SHARE * ttft):
        yield (
            f"requests left up to {late * 1000:.0f} ms late (p99), which the latencies include; "
            "the generator may be what limits."
        )


def _heading(point: Point) -> str:
    found = point.metrics
    counts = [f"{found.completed} completed", f"{found.failed} failed"]
    if point.num_unfinished:
        counts.append(f"{point.num_unfinished} cancelled")
    return f"{point.load.label}: {', '.join(counts)} in {found.duration:.2f} s"


def _failures(point: Point) -> Iterator[str]:
    for kind, number in point.metrics.failures.items():
        yield f"{number} {kind}: {' '.join(point.metrics.failure_messages[kind].split())}"


def _rates(found: Metrics) -> str:
    parts = [
        f"{found.requests_per_second:.2f} requests/s",
        f"{found.output_tokens_per_second:,.0f} output tokens/s",
        f"{found.input_tokens_per_second:,.0f} input tokens/s",
    ]
    if found.cached_input_tokens:
        parts[-1] += f" ({found.cached_input_tokens / found.input_tokens:.0%} cached)"
    if found.goodput is not None and found.good is not None:
        share = found.good / (found.completed + found.failed)
        limits = ", ".join(f"{name} {limit:g} s" for name, limit in found.slo.items())
        parts.append(f"goodput {found.goodput:.2f} requests/s ({share:.0%} within {limits})")
    if found.refusals:
        parts.append(f"{found.refusals} refusals, {found.came_back} completed after one")
    if found.recovered:
        parts.append(f"{found.recovered} recovered from a worker's failure")
    return " · ".join(parts)


def _summary_row(point: Point, stated: bool) -> list[str]:
    found = point.metrics
    row = [
        point.load.label,
        f"{found.requests_per_second:.2f}",
        f"{found.output_tokens_per_second:,.0f}",
    ]
    for spread in (found.ttft, found.tpot, found.e2e):
        row += [_ms(spread.p50), _ms(spread.p99)] if spread else ["-", "-"]
    return [*row, *([f"{found.goodput or 0:.2f}"] if stated else []), str(found.failed)]


def _row(spread: Distribution) -> list[str]:
    return [_ms(each) for each in (spread.mean, spread.p50, spread.p90, spread.p99, spread.max)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}"
