"""Finds the coefficients of a step's time from measured steps.

Least squares of the error relative to the fit (relative to the measured time it would lean to
the short ones), with coefficients of at least 0, by coordinate descent: a dozen columns, so no
library is needed. What is not measured keeps its assumed value, and
`sources` says which is which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median, quantiles
from typing import Any

from miao_client.plan.calibration import Calibration, Delays, Limits
from miao_client.plan.errors import PlanError
from miao_client.plan.samples import LoneRequest, Measured, Sample
from miao_client.plan.step_time import StepTime, StepWork

FEWEST = 30  # steps, below which a fit would say more than is known
_HINGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_OUTLIER = 2.0  # times the fit, or a part of it: a pause of the machine, not the engine's work
_NOISE_POINTS = 40
_REWEIGHTINGS = 3
_LEAST_SECONDS = 1e-6
_SWEEPS, _CHANGE = 4_000, 1e-8


def fit(measured: Measured, limits: Limits, start_seconds: float | None = None) -> Calibration:
    """The calibration that measurements say.

    Raises:
        PlanError: Too few steps were measured.
    """
    samples = measured.samples
    if len(samples) < FEWEST:
        raise PlanError(
            f"a fit needs {FEWEST} steps at least, and {len(samples)} were found; let miao bench "
            "run longer, with --records and several --concurrency."
        )
    step = _fit(samples)
    usual = [each for each in samples if _is_usual(step, each)]
    step = _fit(usual)
    ratios = [each.seconds / step.seconds(each.work) for each in samples]
    step = replace(step, noise=_noise(ratios))
    delays, has_delays = _delays(step, measured.lone)
    if measured.max_model_length is not None:
        limits = replace(limits, max_model_length=measured.max_model_length)
    return Calibration(
        name=" and ".join(dict.fromkeys(name for name in measured.names if name)),
        step=step,
        limits=limits,
        delays=delays,
        start_seconds=60.0 if start_seconds is None else start_seconds,
        sources={
            "step": "measured",
            "limits": "as the worker was said to be",
            "delays": "measured" if has_delays else "assumed",
            "start_seconds": "assumed" if start_seconds is None else "as stated",
        },
        machine=measured.machine,
        fit=_quality(samples, ratios),
    )


def _fit(samples: Sequence[Sample]) -> StepTime:
    most = max(sample.work.tokens for sample in samples)
    hinges = [hinge for hinge in _HINGES if hinge < most]
    expected = [fmean(sample.seconds for sample in samples)] * len(samples)
    for _ in range(_REWEIGHTINGS):
        rows = [
            [value / seconds for value in _columns(sample.work, hinges)]
            for sample, seconds in zip(samples, expected, strict=True)
        ]
        values = [s.seconds / seconds for s, seconds in zip(samples, expected, strict=True)]
        step = _step_of(least_squares(rows, values), hinges)
        expected = [max(step.seconds(sample.work), _LEAST_SECONDS) for sample in samples]
    return step


def _step_of(found: Sequence[float], hinges: Sequence[int]) -> StepTime:
    base, row, context, chunk, attention, *slopes = found
    kept = [(hinge, slope) for hinge, slope in zip(hinges, slopes, strict=True) if slope > 0]
    return StepTime(base, tuple(kept), row, context, chunk, attention)


def _columns(work: StepWork, hinges: Sequence[int]) -> list[float]:
    bends = [float(max(0, work.tokens - hinge)) for hinge in hinges]
    return [1.0, work.rows, work.context, work.chunks, work.pairs, *bends]


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """X of at least 0 that makes |rows · x - values| smallest.

    Coordinate descent on the normal equations, whose columns are brought to one length
    (Franc, Hlavac, Navara 2005, "Sequential Coordinate-Wise Algorithm for NNLS").
    """
    width = len(rows[0])
    columns = [[row[j] for row in rows] for j in range(width)]
    lengths = [math.sqrt(sum(v * v for v in column)) or 1.0 for column in columns]
    columns = [[v / lengths[j] for v in columns[j]] for j in range(width)]
    products = [[_dot(a, b) for b in columns] for a in columns]
    gradient = [-_dot(column, values) for column in columns]
    found = [0.0] * width
    for _ in range(_SWEEPS):
        largest = 0.0
        for j in range(width):
            if products[j][j] == 0:
                continue
            change = max(0.0, found[j] - gradient[j] / products[j][j]) - found[j]
            if change:
                found[j] += change
                largest = max(largest, abs(change))
                gradient = [g + change * p for g, p in zip(gradient, products[j], strict=True)]
        if largest < _CHANGE:
            break
    return [value / length for value, length in zip(found, lengths, strict=True)]


def _dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def _is_usual(step: StepTime, sample: Sample) -> bool:
    ratio = sample.seconds / step.seconds(sample.work)
    return 1 / _OUTLIER < ratio < _OUTLIER


def _noise(ratios: Sequence[float]) -> tuple[float, ...]:
    """Quantiles whose mean is that of the ratios, so that noise changes no throughput."""
    cuts = quantiles(ratios, n=_NOISE_POINTS, method="inclusive")
    drawn = fmean([*cuts, (cuts[0] + cuts[-1]) / 2])
    return tuple(round(cut / drawn * fmean(ratios), 4) for cut in cuts)


def _delays(step: StepTime, lone: Sequence[LoneRequest]) -> tuple[Delays, bool]:
    """What a lone request waited besides its own step; a queue's part is the claim."""
    if not lone:
        return Delays(), False
    outside = max(0.0, median(each.ttft - step.seconds(each.work) for each in lone))
    claim = min(outside, median(each.queued for each in lone))
    rest = (outside - claim) / 2
    return Delays(accept=rest, claim=claim, deliver=rest), True


def _quality(samples: Sequence[Sample], ratios: Sequence[float]) -> dict[str, Any]:
    errors = sorted(abs(ratio - 1) for ratio in ratios)
    return {
        "steps": len(samples),
        "with_prompts": sum(sample.work.chunks > 0 for sample in samples),
        "most_rows": max(sample.work.rows for sample in samples),
        "most_tokens": max(sample.work.tokens for sample in samples),
        "error_p50": round(errors[len(errors) // 2], 4),
        "error_p90": round(errors[int(0.9 * len(errors))], 4),
    }
