"""`miao plan` beside a real fleet of several workers, one of which dies on the way.

    python benchmarks/plan_fleet.py --output benchmarks/results/plan/fleet.json

Two fronts, a Valkey and four workers, all real but for the models, which wait as long as a
formula says (`timed_worker.py`). Requests of mixed lengths come at random, to the fleet and to
the planner at the same times: once undisturbed, once with a worker killed and started again.
The delays outside the engine are measured first, with one request at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import plan_validation as validation
from fleet import Fleet
from machine import describe_machine

from miao_client.plan.calibration import Calibration, Delays, Limits
from miao_client.plan.fleet import Failure
from miao_client.plan.outcome import Outcome
from miao_client.plan.step_time import StepTime, StepWork

STEP = {"base": 0.03, "row": 0.0005, "hinges": [[16, 0.00015]], "chunk": 0.001}
LIMITS = Limits(max_sequences=12, max_batch_tokens=2048)
WORKERS = 4
MOST_TOKENS = 1000  # the bundled model, whose card the workers show, takes 1,024
PROGRAM = Path(__file__).with_name("timed_worker.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=16.0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    os.environ["MIAO_STEP_TIME"] = json.dumps(STEP)
    with tempfile.TemporaryDirectory() as name:
        worker = ["--cache-gib", "0.2", "--max-sequences", str(LIMITS.max_sequences)]
        fleet = Fleet(Path(name), 1, WORKERS, worker, [sys.executable, str(PROGRAM)])
        fleet.start()
        try:
            result = _measure(fleet, Path(name), options)
        finally:
            fleet.stop()
    options.output.write_text(json.dumps(result, indent=1) + "\n")


def _measure(fleet: Fleet, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    target = fleet.targets[0]
    found = Calibration(
        "timed", StepTime(**STEP), LIMITS, _delays(target, folder), start_seconds=0.0
    )
    print(found.delays, flush=True)
    rows = [_compare(fleet, folder, found, options, None)]
    rows.append(_compare(fleet, folder, found, options, options.seconds / 3))
    return {
        "machine": describe_machine(),
        "workers": WORKERS,
        "step": STEP,
        "max_sequences": LIMITS.max_sequences,
        "prompts": validation.PROMPTS,
        "answers": validation.ANSWERS,
        "delays_ms": {k: round(1e3 * getattr(found.delays, k), 2) for k in Delays.__slots__},
        "runs": rows,
    }


def _delays(target: str, folder: Path) -> Delays:
    """What a lone request waits besides its step."""
    load = ["-c", "1", "--requests", "20", "--input-tokens", "64", "--output-tokens", "3"]
    point = validation.bench(target, folder / "lone.json", load)
    step = StepTime(**STEP).seconds(StepWork(chunks=1, prompt_tokens=64))
    outside = median(record["ttft"] for record in point["records"]) - step
    claim = min(outside, median(record["queued"] for record in point["records"]))
    return Delays((outside - claim) / 2, claim, (outside - claim) / 2)


def _compare(
    fleet: Fleet,
    folder: Path,
    found: Calibration,
    options: argparse.Namespace,
    killed_at: float | None,
) -> dict[str, Any]:
    seed = options.seed + (killed_at is not None)
    arrivals = validation.draw_arrivals(options.rate, options.seconds, seed, MOST_TOKENS)
    trace = validation.write_trace(folder / f"trace-{seed}.jsonl", arrivals)
    killer = Killer(fleet, killed_at)
    killer.start()
    load = ["--arrivals", str(trace), "--seed", str(seed)]
    point = validation.bench(fleet.targets[0], folder / "open.json", load)
    killer.join()
    failures = () if killed_at is None else (_as_seen(killer, point, arrivals),)
    outcome = validation.plan(found, arrivals, workers=WORKERS, failures=failures)
    name = "undisturbed" if killed_at is None else "a worker killed"
    row = validation.compared(
        name, len(arrivals), validation.real_figures(point), validation.planned_figures(outcome)
    )
    if failures:
        row["killed"] = {"at": failures[0].at, "back_after": failures[0].back_after}
        row |= _silences(point, outcome)
    print(json.dumps(row), flush=True)
    return row


class Killer(threading.Thread):
    """Kills a worker after the first token was seen for so long, and starts it again."""

    def __init__(self, fleet: Fleet, at: float | None) -> None:
        super().__init__(daemon=True)
        self._fleet = fleet
        self._at = at
        self.killed = self.back = 0.0  # of the wall clock

    def run(self) -> None:
        if self._at is None:
            return
        time.sleep(self._at)
        worker = self._fleet.workers[0]
        self.killed = time.time()
        worker.end()
        worker.start()
        worker.wait_ready()
        self.back = time.time()


def _as_seen(killer: Killer, point: dict[str, Any], arrivals: validation.Lengths) -> Failure:
    """The failure on the trace's own clock: whoever was moved was silent from then on."""
    last_words = [
        record["intended"] + record["ttft"] + sum(record["itl"][: _longest(record)])
        for record in point["records"]
        if record["attempts"] > 1 and record["ttft"] is not None and record["itl"]
    ]
    at = median(last_words) if last_words else killer.killed - killer.back
    # Records count from the first sending, which is the first arrival's time.
    return Failure(at + arrivals[0][0], 1, killer.back - killer.killed)


def _longest(record: dict[str, Any]) -> int:
    gaps = record["itl"]
    return max(range(len(gaps)), key=gaps.__getitem__)


def _silences(point: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    moved = [record for record in point["records"] if record["attempts"] > 1]
    silent = [1e3 * max(record["itl"]) for record in moved if record["itl"]]
    return {
        "moved": {"seen": len(moved), "planned": outcome.taken_over},
        "silence_ms_p50": {
            "seen": round(median(silent)),
            "planned": round(1e3 * outcome.silences.percentile(50)),
        },
        "silence_ms_max": {
            "seen": round(max(silent)),
            "planned": round(1e3 * outcome.silences.max),
        },
    }


if __name__ == "__main__":
    main()
