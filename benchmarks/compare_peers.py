"""The whole service beside other engines, in turns on the same machine and prompts.

    python benchmarks/compare_peers.py --reps 3 --peer hf:ENVIRONMENT/bin/python:MODEL

Our side is the running service with the SDK as its load; the peers are called in their
own processes, without a service. All load their model once; whoever does not run is
stopped (SIGSTOP), but for the service, which idles. With --engine ours is also measured
alone, in a process like the peers'. Workloads as in workloads.py.
Reports medians of output tokens per second, and ratios to the best peer, repetition
by repetition: only the ratios mean something on a shared machine. How to get the
peers: peers/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from machine import describe_machine
from models import ensure_model
from workloads import WORKLOADS, service

_PEERS = ("hf", "vllm", "openvino")
_OURS = ("miao", "engine")
_FOLDER = Path(__file__).with_name("peers")
Rates = dict[str, dict[str, list[float]]]  # by workload and engine, output tokens a second


@dataclass(frozen=True)
class Peer:
    """An engine in a process that is stopped while it does not run."""

    name: str
    process: subprocess.Popen[str]

    def seconds(self, prompts: list[list[int]], new_tokens: int) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        print(json.dumps([prompts, new_tokens]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"{self.name} has ended"
        self.process.send_signal(signal.SIGSTOP)
        return float(answer)


def main() -> None:
    arguments = _arguments()
    workloads = {name: WORKLOADS[name] for name in arguments.workloads}
    if arguments.engine:
        arguments.peer.append(f"engine:{sys.executable}:{ensure_model(arguments.model)}")
    names = ["miao", *(peer.partition(":")[0] for peer in arguments.peer)]
    rates: Rates = {workload: {name: [] for name in names} for workload in workloads}
    quantize = "int8" if arguments.precision == "int8" else None
    with _peers(arguments) as peers, service(str(ensure_model(arguments.model)), quantize) as ours:
        runs = {"miao": lambda prompts, new: ours(prompts, new).total}
        runs |= {peer.name: peer.seconds for peer in peers}
        for run in runs.values():
            for name in ("c1", "c8"):
                run(WORKLOADS[name].draw("warm"), 8)
        for rep in range(arguments.reps):
            for name, workload in workloads.items():
                for engine in names[rep % len(names) :] + names[: rep % len(names)]:
                    seconds = runs[engine](workload.draw(f"{name}/{rep}"), workload.new_tokens)
                    rate = workload.prompts * workload.new_tokens / seconds
                    rates[name][engine].append(rate)
                    print(f"{name:8s} rep {rep} {engine:9s} {rate:8.1f}", flush=True)
    _report(arguments, rates)


@contextmanager
def _peers(arguments: argparse.Namespace) -> Iterator[list[Peer]]:
    peers: list[Peer] = []
    try:
        for each in arguments.peer:
            name, python, folder = each.split(":")
            peers.append(Peer(name, _start(name, python, folder, arguments)))
        yield peers
    finally:
        for peer in peers:
            peer.process.kill()
            peer.process.wait()


def _start(
    name: str, python: str, folder: str, arguments: argparse.Namespace
) -> subprocess.Popen[str]:
    environment = os.environ.copy()
    environment.pop("PYTHONPATH", None)
    if name == "vllm" and arguments.preload:
        environment["LD_PRELOAD"] = arguments.preload
    process = subprocess.Popen(
        [python, str(_FOLDER / f"run_{name}.py"), folder, arguments.precision],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if arguments.quiet else None,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", f"{name} does not start"
    process.send_signal(signal.SIGSTOP)
    return process


def _report(arguments: argparse.Namespace, rates: Rates) -> None:
    median = statistics.median
    ratios: dict[str, dict[str, list[float]]] = {}
    print(
        f"\n{arguments.model} {arguments.precision}, output tokens/s, medians of {arguments.reps}"
    )
    for workload, by_engine in rates.items():
        best = max((r for name, r in by_engine.items() if name not in _OURS), key=median)
        ratios[workload] = {
            name: sorted(own / peer for own, peer in zip(by_engine[name], best, strict=True))
            for name in _OURS
            if name in by_engine
        }
        print(workload, *(f"{name} {median(r):8.1f}" for name, r in by_engine.items()), sep="  ")
        for name, found in ratios[workload].items():
            print(
                f"    {name}: {median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f}) of the best"
            )
    if arguments.output:
        result = {"machine": describe_machine(), "rates": rates, "ratios": ratios}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--model", default="qwen2-0.5b", choices=["qwen2-0.5b", "llama-tiny"])
    option("--precision", default="bfloat16", choices=["bfloat16", "int8"])
    option("--peer", action="append", required=True, metavar="NAME:PYTHON:MODEL",
           help=f"one of {', '.join(_PEERS)}, its interpreter and its model")  # fmt: skip
    option("--engine", action="store_true", help="our engine without the service too")
    option("--preload", default="", help="libraries that vLLM is started with")
    option("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    option("--reps", type=int, default=3)
    option("--quiet", action="store_true", help="without what the peers write")
    option("--output", type=Path, help="write the results here as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
