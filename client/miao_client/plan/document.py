"""A plan as JSON. Times are in seconds, rates a second; docs/planning.md has the fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miao_client import __version__
from miao_client.plan import calibration as calibrations
from miao_client.plan.calibration import Calibration
from miao_client.plan.outcome import Outcome
from miao_client.plan.prices import Cost
from miao_client.plan.question import Slice
from miao_client.plan.sizing import Sizing
from miao_client.plan.spread import Spread

FORMAT = 1  # goes up when a field changes its meaning


def write(document: Mapping[str, Any], path: Path) -> None:
    """Write it; a file that was there is replaced only by a whole one."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def of_run(
    calibration: Calibration,
    options: Mapping[str, Any],
    outcome: Outcome,
    part: Slice,
    price: float | None,
) -> dict[str, Any]:
    """One simulated fleet."""
    return _head(calibration, options) | {"run": _outcome(outcome, part, price)}


def of_sizes(
    calibration: Calibration,
    options: Mapping[str, Any],
    sizings: list[Sizing],
    price: float | None,
) -> dict[str, Any]:
    """An answer for each rate."""
    return _head(calibration, options) | {"sizes": [_sizing(each, price) for each in sizings]}


def _head(calibration: Calibration, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "client_version": __version__,
        "options": dict(options),
        "calibration": calibrations.document(calibration),
    }


def _sizing(sizing: Sizing, price: float | None) -> dict[str, Any]:
    after = sizing.after_failure
    return {
        "rate": sizing.load.profile.peak,
        "workers": sizing.workers,
        "requests_per_second_of_a_full_worker": sizing.capacity,
        **_outcome(sizing.outcome, sizing.part, price),
        "with_a_failure": None if after is None else _outcome(after, sizing.part, price),
    }


def _outcome(outcome: Outcome, part: Slice, price: float | None) -> dict[str, Any]:
    """Rates and costs are the whole fleet's, counts those of the part that was simulated."""
    whole = 1 / part.factor
    return {
        "simulated": {"workers": part.workers, "of": part.of, "seconds": outcome.seconds},
        "requests_per_second": outcome.requests_per_second * whole,
        "output_tokens_per_second": outcome.output_tokens_per_second * whole,
        "mean_workers": outcome.worker_seconds / outcome.seconds * whole if outcome.seconds else 0,
        "most_workers": outcome.most_paid * whole,
        "utilization": outcome.utilization,
        "mean_rows": outcome.mean_rows,
        "arrived": outcome.arrived,
        "completed": outcome.completed,
        "refused": outcome.refused,
        "unfit": outcome.unfit,
        "expired": outcome.expired,
        "unfinished": outcome.unfinished,
        "preemptions": outcome.preemptions,
        "worker_failures": outcome.failures,
        "taken_over": outcome.taken_over,
        "slo": outcome.slo.stated,
        "good_share": outcome.good_share,
        **{name: _spread(getattr(outcome, name)) for name in _SPREADS},
        "cost": None if price is None else asdict(Cost.of(price, outcome, part)),
        "course": [asdict(moment) for moment in outcome.moments],
    }


_SPREADS = ("ttft", "itl", "tpot", "e2e", "queued", "silences")


def _spread(spread: Spread) -> dict[str, float] | None:
    figures = spread.figures()
    return None if figures is None else asdict(figures)
