"""What `miao plan` does with its options. It needs rich, as the command does."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from miao_client.bench.settings import check_folder
from miao_client.plan import calibration as calibrations
from miao_client.plan import document, fitting, plot, report, samples
from miao_client.plan.autoscaling import Autoscaling
from miao_client.plan.calibration import Calibration, Limits
from miao_client.plan.errors import PlanError, as_plan_error
from miao_client.plan.fleet import Failure, FleetSettings
from miao_client.plan.load import (
    Pairs,
    Profile,
    lengths,
    pairs_of,
    read_arrivals,
    read_pairs,
    read_profile,
)
from miao_client.plan.question import Goal, Load, Slice, simulate
from miao_client.plan.sizing import size

_WRONG_ARGUMENT = 2
_NOT_MET = 1
_MOST_REQUESTS = 1_000_000  # simulated by `run`, where nothing else is asked
_FEWEST_WORKERS = 4  # of a slice that is taken by itself
_MOST_SCALED = 8  # of one whose workers come and go: fewer would go up and down too coarsely


@dataclass(frozen=True, slots=True)
class Results:
    """Where a plan goes, besides stdout.

    Raises:
        PlanError: They could not be written.
    """

    json: Path | None = None
    plot: Path | None = None

    def __post_init__(self) -> None:
        """Find out before the simulation, not after."""
        with as_plan_error():
            check_folder("--json", self.json)
            check_folder("--plot", self.plot)
        if self.plot:
            plot.check(self.plot)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what makes no sense into one line on stderr and the exit status 2."""
    try:
        yield
    except PlanError as error:
        typer.echo(f"miao: {error}", err=True)
        raise typer.Exit(_WRONG_ARGUMENT) from None


def fit(paths: list[Path], limits: Limits, start_seconds: float | None, result: Path) -> None:
    """Fit a calibration and write it."""
    with as_plan_error():
        check_folder("--output", result)
    found = fitting.fit(samples.read(paths, limits), limits, start_seconds)
    calibrations.write(found, result)
    report.write_fit(found)
    print(f"Written to {result}.")


def load_of(
    *,
    rate: float | None,
    profile: Path | None,
    arrivals: Path | None,
    pairs: Pairs,
    seconds: float | None,
    cached_share: float,
) -> Load:
    """The load that exactly one of three options says.

    Raises:
        PlanError: Not exactly one is given, or it makes no sense.
    """
    if sum(way is not None for way in (rate, profile, arrivals)) != 1:
        raise PlanError("Say the load: exactly one of --rate, --profile or --arrivals.")
    if arrivals is not None:
        trace = tuple(read_arrivals(arrivals))
        length = max(trace[-1].at, 1e-3)
        mean = len(trace) / length
        return Load(Profile.constant(mean), pairs, length, trace, cached_share)
    course = read_profile(profile) if profile is not None else Profile.constant(rate or 0.0)
    length = seconds if seconds is not None else (course.seconds or 240.0)
    return Load(course, pairs, length, cached_share=cached_share)


def pairs(input_tokens: str, output_tokens: str, lengths_file: Path | None) -> Pairs:
    """What the options say of lengths."""
    if lengths_file is not None:
        return read_pairs(lengths_file)
    return pairs_of(
        lengths("--input-tokens", input_tokens), lengths("--output-tokens", output_tokens)
    )


def rates_of(text: str | None) -> list[float | None]:
    """A rate, or several with commas; one that is None where the load is no rate.

    Raises:
        PlanError: They are no numbers.
    """
    if text is None:
        return [None]
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise PlanError(f"--rate must be numbers with commas between, not {text!r}.") from None


def failures_of(texts: list[str]) -> tuple[Failure, ...]:
    """Failures as options say them: SECOND, SECOND:WORKERS or SECOND:WORKERS:BACK.

    Raises:
        PlanError: One is none of these.
    """
    return tuple(map(_failure, texts))


def _failure(text: str) -> Failure:
    parts = text.split(":")
    try:
        at, workers = float(parts[0]), int(parts[1]) if len(parts) > 1 else 1
        back = None
        if len(parts) > 2:
            back = float("inf") if parts[2] == "never" else float(parts[2])
        if len(parts) <= 3 and at >= 0 and workers >= 1 and (back is None or back >= 0):
            return Failure(at, workers, back)
    except ValueError:
        pass
    raise PlanError(
        "--fail must be SECOND, SECOND:WORKERS or SECOND:WORKERS:BACK, where BACK is seconds or "
        f"never, not {text!r}."
    )


def autoscaling_of(
    text: str | None, calibration: Calibration, **numbers: Any
) -> Autoscaling | None:
    """The rule that LEAST:MOST and the other options say.

    Raises:
        PlanError: It is none.
    """
    if text is None:
        return None
    least, _, most = text.partition(":")
    try:
        bounds = int(least), int(most)
    except ValueError:
        raise PlanError(f"--autoscale must be LEAST:MOST, not {text!r}.") from None
    stated = {name: value for name, value in numbers.items() if value is not None}
    target = stated.pop("target", 0.75 * calibration.limits.max_sequences)
    return Autoscaling(*bounds, target, **stated)


def run(
    calibration: Calibration,
    load: Load,
    settings: FleetSettings,
    goal: Goal,
    *,
    slice_of: int | None,
    price: float | None,
    results: Results,
    options: Mapping[str, Any],
) -> int:
    """Simulate one fleet; the exit status says whether the goal is met."""
    part = _part(load, settings, slice_of)
    expected = load.expected_requests * part.factor
    print(f"{calibration.name}: about {expected:,.0f} requests, seed {settings.seed}", flush=True)
    began = time.perf_counter()
    outcome = simulate(calibration, load, settings, part)
    _note(f"simulated in {time.perf_counter() - began:.1f} s")
    report.write_run(calibration, outcome, part, price)
    misses = goal.misses(outcome)
    if goal.slo.stated or goal.good_share is not None:
        print("The goal is met." if not misses else f"The goal is missed: {', '.join(misses)}.")
    if results.json:
        document.write(document.of_run(calibration, options, outcome, part, price), results.json)
    if results.plot:
        plot.write_run(outcome, part, results.plot)
    return _NOT_MET if misses else 0


def sizes(
    calibration: Calibration,
    loads: list[Load],
    settings: FleetSettings,
    goal: Goal,
    *,
    most_simulated: int,
    with_failure: bool,
    price: float | None,
    results: Results,
    options: Mapping[str, Any],
) -> int:
    """Find the workers for each load."""
    if not goal.slo.stated and goal.good_share is None:
        raise PlanError(
            "Say what callers must get: --slo-ttft, --slo-itl, --slo-tpot or --slo-e2e."
        )
    if most_simulated < 1:
        raise PlanError(f"--simulated-workers must be at least 1, not {most_simulated}.")
    found = [
        size(
            calibration,
            load,
            goal,
            settings,
            most_simulated,
            with_failure=with_failure,
            note=_note_try,
        )
        for load in loads
    ]
    report.write_sizes(calibration, found, price)
    if results.json:
        document.write(document.of_sizes(calibration, options, found, price), results.json)
    if results.plot:
        plot.write_sizes(found, results.plot)
    return 0


def _part(load: Load, settings: FleetSettings, slice_of: int | None) -> Slice:
    """The part to simulate: as asked, else so that it ends soon and is no single worker."""
    rule = settings.autoscaling
    whole = settings.workers if rule is None else max(settings.workers, rule.most)
    if load.trace:
        if slice_of not in (None, 1):
            raise PlanError("--slice cannot be taken of --arrivals: a trace is as it is.")
        return Slice(whole, whole)
    if slice_of is None:
        by_time = int(load.expected_requests / _MOST_REQUESTS)
        slice_of = max(
            1, min(by_time, whole // (_FEWEST_WORKERS if rule is None else _MOST_SCALED))
        )
    if not 1 <= slice_of <= whole:
        raise PlanError(
            f"--slice must be from 1 to the number of workers, {whole}, not {slice_of}."
        )
    return Slice(max(1, round(whole / slice_of)), whole)


def _note_try(workers: int, misses: list[str]) -> None:
    _note(f"{workers:,} workers: {', '.join(misses) if misses else 'enough'}")


def _note(text: str) -> None:
    """Say how it goes, to people who watch."""
    if sys.stderr.isatty():
        print(f"  {text}", file=sys.stderr, flush=True)
