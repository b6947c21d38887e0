"""`miao plan` beside a real service: what it foretells, and what callers get.

    python benchmarks/plan_validation.py --output benchmarks/results/plan-validation

One worker on this machine, through the whole service. First closed loops of several sizes,
from whose records the worker is calibrated; then requests of mixed lengths come at random, at
several rates, to the service and, at the same times with the same lengths, to the planner.
Nothing of these is used in the calibration. Writes FOLDER/calibration.json (as `miao plan fit`
would) and FOLDER/one-worker.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any

from fleet import Fleet as RealFleet
from machine import describe_machine
from models import ensure_model
from workloads import VOCABULARY

from miao_client.bench.workload import seeded
from miao_client.plan import calibration, fitting, samples
from miao_client.plan.calibration import Calibration, Limits
from miao_client.plan.fleet import Fleet, FleetSettings
from miao_client.plan.load import lengths, pairs_of
from miao_client.plan.outcome import Outcome
from miao_client.plan.request import Request

LIMITS = Limits(max_sequences=32, max_batch_tokens=2048)
WORKER = ["--max-model-length", "2048", "--max-sequences", str(LIMITS.max_sequences)]
LOOPS = [(1, 10), (2, 16), (6, 36), (16, 64), (24, 72)]  # callers at once, requests
LOOP_PROMPTS, LOOP_ANSWERS = "uniform:8-400", "uniform:4-48"
PROMPTS, ANSWERS = "lognormal:96:600", "lognormal:40:160"
PERCENTILES = (50, 90, 99)

Lengths = list[tuple[float, int, int]]  # when, prompt, answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2-0.5b")
    parser.add_argument("--quantize")
    parser.add_argument("--rates", nargs="+", type=float, default=[1.5, 2.5])
    parser.add_argument("--seconds", type=float, default=75.0, help="of each rate")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--output", type=Path, required=True, help="a folder")
    parser.add_argument("--reports", type=Path, help="a folder, to keep what miao bench wrote")
    options = parser.parse_args()
    reports = options.reports or Path(tempfile.mkdtemp(prefix="miao-plan-"))
    quantize = ["--quantize", options.quantize] if options.quantize else []
    worker = ["--model", str(ensure_model(options.model)), *WORKER, *quantize]
    fleet = RealFleet(reports, 1, 1, worker)
    fleet.start()
    try:
        found = _calibrate(fleet.targets[0], reports, options.output)
        runs = [_compare(fleet.targets[0], reports, found, rate, options) for rate in options.rates]
    finally:
        fleet.stop()
    result = {"machine": describe_machine(), "model": options.model, "quantize": options.quantize}
    result |= {"prompts": PROMPTS, "answers": ANSWERS, "seconds": options.seconds, "runs": runs}
    (options.output / "one-worker.json").write_text(json.dumps(result, indent=1) + "\n")


def _calibrate(target: str, folder: Path, output: Path) -> Calibration:
    paths = []
    bench(target, folder / "warm.json", ["-c", "4", "--requests", "8", "--output-tokens", "8"])
    for callers, requests in LOOPS:
        prompts = folder / f"prompts-{callers}.jsonl"
        prompts.write_text("".join(map(_prompt_line, _draw_prompts(callers, requests))))
        paths.append(folder / f"loop-{callers}.json")
        load = ["-c", str(callers), "--requests", str(requests), "--prompts", str(prompts)]
        bench(target, paths[-1], load)
    measured = samples.read(paths, LIMITS)
    measured.machine |= describe_machine()
    found = fitting.fit(measured, LIMITS)
    calibration.write(found, output / "calibration.json")
    print(json.dumps(dict(found.fit)), found.delays, flush=True)
    return found


def _draw_prompts(seed: int, count: int) -> Lengths:
    random = Random(seed)
    draw = pairs_of(lengths("", LOOP_PROMPTS), lengths("", LOOP_ANSWERS))
    return [(0.0, *draw(random)) for _ in range(count)]


def _prompt_line(drawn: tuple[float, int, int]) -> str:
    _, prompt, answer = drawn
    tokens = Random(str(drawn)).choices(VOCABULARY, k=prompt)
    return json.dumps({"prompt": tokens, "output_tokens": answer}) + "\n"


def bench(target: str, path: Path, load: list[str]) -> dict[str, Any]:
    """The report of `miao bench`, run as people run it."""
    command = [sys.executable, "-m", "miao_client.cli", "bench", "--target", target, *load]
    command += ["--ignore-eos", "--temperature", "0", "--json", str(path), "--records"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    point: dict[str, Any] = json.loads(path.read_text())["points"][0]
    assert not point["failed"], point["failures"]
    return point


def _compare(
    target: str, folder: Path, found: Calibration, rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    arrivals = draw_arrivals(rate, options.seconds, options.seed)
    trace = write_trace(folder / f"trace-{rate:g}.jsonl", arrivals)
    report = folder / f"open-{rate:g}.json"
    seen = real_figures(
        bench(target, report, ["--arrivals", str(trace), "--seed", str(int(100 * rate))])
    )
    began = time.perf_counter()
    foretold = planned_figures(plan(found, arrivals))
    row = compared(f"{rate:g} requests/s", len(arrivals), seen, foretold)
    row["planning_seconds"] = round(time.perf_counter() - began, 3)
    print(json.dumps(row), flush=True)
    return row


def draw_arrivals(rate: float, seconds: float, seed: int, most_tokens: int = 2048) -> Lengths:
    """A Poisson process, with lengths; a prompt and its answer have `most_tokens` together."""
    random, drawn = seeded(seed, rate), Random(seed)
    draw, arrivals, at = pairs_of(lengths("", PROMPTS), lengths("", ANSWERS)), [], 0.0
    while (at := at + random.expovariate(rate)) < seconds:
        prompt, answer = draw(drawn)
        answer = min(answer, 512)
        arrivals.append((round(at, 4), min(prompt, 1024, most_tokens - answer), answer))
    return arrivals


def write_trace(path: Path, arrivals: Lengths) -> Path:
    """The trace as `miao bench` takes it."""
    names = ("at", "input_tokens", "output_tokens")
    lines = (json.dumps(dict(zip(names, each, strict=True))) + "\n" for each in arrivals)
    path.write_text("".join(lines))
    return path


def plan(found: Calibration, arrivals: Lengths, **fleet: Any) -> Outcome:
    """What the planner says of these requests."""
    requests = (Request(n, *each) for n, each in enumerate(arrivals))
    return Fleet(found, FleetSettings(**{"workers": 1, **fleet}), requests).run()


def real_figures(point: dict[str, Any]) -> dict[str, float]:
    """Of a point of a benchmark; milliseconds."""
    figures = {
        f"{name}_p{p}": point[name][f"p{p}"] for name in ("ttft", "itl", "e2e") for p in PERCENTILES
    }
    return {name: 1e3 * seconds for name, seconds in figures.items()} | {
        "output_tokens_per_second": point["output_tokens_per_second"],
        "requests_per_second": point["requests_per_second"],
    }


def planned_figures(outcome: Outcome) -> dict[str, float]:
    """The same of a plan."""
    figures = {
        f"{name}_p{p}": 1e3 * getattr(outcome, name).percentile(p)
        for name in ("ttft", "itl", "e2e")
        for p in PERCENTILES
    }
    return figures | {
        "output_tokens_per_second": outcome.output_tokens_per_second,
        "requests_per_second": outcome.requests_per_second,
    }


def compared(
    name: str, count: int, seen: dict[str, float], foretold: dict[str, float]
) -> dict[str, Any]:
    """Both, and how far the plan is off."""
    return {
        "load": name,
        "requests": count,
        "seen": {key: round(value, 1) for key, value in seen.items()},
        "planned": {key: round(foretold[key], 1) for key in seen},
        "off_percent": {key: round(100 * (foretold[key] / seen[key] - 1), 1) for key in seen},
    }


if __name__ == "__main__":
    main()
