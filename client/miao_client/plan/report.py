"""A plan for people. It needs rich, as the command does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from miao_client.cli import output
from miao_client.plan.calibration import PARTS, Calibration
from miao_client.plan.outcome import Outcome
from miao_client.plan.prices import Cost
from miao_client.plan.question import Slice
from miao_client.plan.sizing import Sizing
from miao_client.plan.spread import Spread


def write_fit(calibration: Calibration) -> None:
    """Print what a fit has found."""
    step, fit = calibration.step, calibration.fit
    print(f"{calibration.name}: {fit['steps']} steps, {fit['with_prompts']} of them with prompts;")
    print(f"  up to {fit['most_rows']} rows and {fit['most_tokens']} tokens in a step")
    print(f"  off by {fit['error_p50']:.1%} (p50) and {fit['error_p90']:.1%} (p90) a step\n")
    rows = [
        ("a step", f"{1e3 * step.base:,.2f} ms"),
        *((f"  each token from {n} on, more", f"{1e6 * s:,.2f} us") for n, s in step.hinges),
        ("  each sequence that decodes", f"{1e6 * step.row:,.2f} us"),
        ("  each token that these read", f"{1e9 * step.context:,.2f} ns"),
        ("  each prompt, or part of one", f"{1e6 * step.chunk:,.2f} us"),
        ("  each pair of a prompt's tokens", f"{1e9 * step.attention:,.3f} ns"),
        ("before the queue", f"{1e3 * calibration.delays.accept:,.1f} ms"),
        ("from the queue to the engine", f"{1e3 * calibration.delays.claim:,.1f} ms"),
        ("from the engine to the caller", f"{1e3 * calibration.delays.deliver:,.1f} ms"),
        ("start of a worker", f"{calibration.start_seconds:,.1f} s"),
    ]
    output.write_table(["TIME", "VALUE#"], rows)
    write_sources(calibration)


def write_sources(calibration: Calibration) -> None:
    """Print which of the figures were measured."""
    print("\n" + ", ".join(f"{part}: {calibration.source(part)}" for part in PARTS) + ".")


def write_sizes(calibration: Calibration, sizings: Sequence[Sizing], price: float | None) -> None:
    """Print an answer for each rate."""
    columns = ["REQUESTS/S#", "WORKERS#", "EACH/S#", "FULL/S#", "BUSY#", "ROWS#"]
    columns += ["TTFT P50#", "P99#", "ITL P50#", "P99#", "GOOD#"]
    columns += ["COST/H#", "1M TOKENS#"] if price is not None else []
    output.write_table(columns, [_size_row(sizing, price) for sizing in sizings])
    print("\nMilliseconds. " + _slices([each.part for each in sizings]))
    for sizing in sizings:
        if sizing.after_failure is not None:
            share = f"1 of {sizing.part.workers} workers"
            print(f"{sizing.load.profile.peak:g} requests/s, {share} dies: ", end="")
            print(failure_words(sizing.after_failure))
    write_sources(calibration)


def write_run(calibration: Calibration, outcome: Outcome, part: Slice, price: float | None) -> None:
    """Print one simulated fleet."""
    for line in _run_lines(outcome, part, price):
        print(line)
    print()
    rows = (
        ("time to first token", outcome.ttft),
        ("  of it in the queue", outcome.queued),
        ("inter-token latency", outcome.itl),
        ("time per output token", outcome.tpot),
        ("end to end", outcome.e2e),
        ("longest silence of those that moved", outcome.silences),
    )
    output.write_table(
        ["  milliseconds", "mean#", "p50#", "p90#", "p99#", "max#"],
        [(f"  {name}", *_row(spread)) for name, spread in rows if spread.count],
    )
    write_sources(calibration)


def failure_words(outcome: Outcome) -> str:
    """What a worker's death did."""
    return (
        f"{outcome.taken_over} generations moved, silent for "
        f"{_ms(outcome.silences.percentile(50))} (p50) to {_ms(outcome.silences.max)} ms; "
        f"of all, ttft p99 {_ms(outcome.ttft.percentile(99))} ms, {outcome.failed} failed."
    )


def _run_lines(outcome: Outcome, part: Slice, price: float | None) -> Iterator[str]:
    whole = 1 / part.factor
    mean = outcome.worker_seconds / outcome.seconds * whole if outcome.seconds else 0.0
    yield (
        f"{outcome.completed:,} completed, {outcome.failed:,} failed in {outcome.seconds:,.0f} s: "
        f"{outcome.requests_per_second * whole:,.2f} requests/s, "
        f"{outcome.output_tokens_per_second * whole:,.0f} output tokens/s"
    )
    if outcome.failed:
        yield (
            f"  failed: {outcome.refused:,} refused (backlog), {outcome.expired:,} waited too "
            f"long, {outcome.unfit:,} too long for the worker, {outcome.unfinished:,} left"
        )
    yield (
        f"  {mean:,.1f} workers on average, {outcome.most_paid * whole:,.0f} at most; "
        f"{outcome.utilization:.0%} busy, {outcome.mean_rows:.1f} rows, "
        f"{outcome.preemptions} preemptions"
    )
    if outcome.slo.stated:
        limits = ", ".join(f"{name} {limit:g} s" for name, limit in outcome.slo.stated.items())
        yield f"  {outcome.good_share:.2%} good (within {limits})"
    if outcome.failures:
        yield f"  {outcome.failures} workers died; " + failure_words(outcome)
    if price is not None:
        yield "  " + _cost_words(Cost.of(price, outcome, part))
    yield "  " + _slices([part])


def _size_row(sizing: Sizing, price: float | None) -> list[str]:
    outcome = sizing.outcome
    row = [
        f"{sizing.load.profile.peak:,g}",
        f"{sizing.workers:,}",
        f"{sizing.load.profile.peak / sizing.workers:.2f}",
        f"{sizing.capacity:.2f}",
        f"{outcome.utilization:.0%}",
        f"{outcome.mean_rows:.1f}",
    ]
    for spread in (outcome.ttft, outcome.itl):
        row += [_ms(spread.percentile(50)), _ms(spread.percentile(99))]
    row.append(f"{outcome.good_share:.1%}" if outcome.slo.stated else "-")
    if price is not None:
        cost = Cost.of(price, outcome, sizing.part)
        row += [f"{cost.per_hour:,.2f}", _money(cost.per_million_output_tokens)]
    return row


def _slices(parts: Sequence[Slice]) -> str:
    cut = [part for part in parts if part.workers < part.of]
    if not cut:
        return "Every worker was simulated."
    shares = ", ".join(f"{part.workers} of {part.of:,}" for part in cut)
    return f"Simulated with their share of the load: {shares} workers."


def _cost_words(cost: Cost) -> str:
    return (
        f"cost: {cost.per_hour:,.2f} an hour, {_money(cost.per_thousand_requests)} for 1,000 "
        f"requests, {_money(cost.per_million_output_tokens)} for 1,000,000 output tokens"
    )


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _row(spread: Spread) -> list[str]:
    figures = spread.figures()
    if figures is None:
        return []
    return [_ms(v) for v in (figures.mean, figures.p50, figures.p90, figures.p99, figures.max)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}"
