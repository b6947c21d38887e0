"""The whole service beside transformers' `generate`, interleaved in one run.

    python benchmarks/compare_hf.py --model qwen2-0.5b --reps 3

The load comes from the SDK through gRPC, the queue, a worker and back. Greedy,
the end of sequence ignored, 128 random prompt tokens and 128 new ones for each
of 1, 8 and 32 callers at once. Reports medians of output tokens per second and
their ratio: only the ratio means something on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from machine import describe_machine
from models import ensure_model

from miao_client import Client
from miao_worker.stack import Stack, StackSettings

PROMPT_TOKENS = 128


def main() -> None:
    arguments = _arguments()
    folder = ensure_model(arguments.model)
    options = ["--model", str(folder), "--dtype", arguments.dtype, "--no-prefix-cache"]
    stack = Stack(StackSettings("127.0.0.1:0", options), lambda *_: None)
    stack.start()
    peer = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("hf_generate.py")), folder, arguments.dtype],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert peer.stdout is not None
        assert peer.stdout.readline() == "ready\n"
        with Client(stack.address) as client:
            results = _measure(arguments, lambda p, n: _ours(client, p, n), _peer(peer))
    finally:
        peer.kill()
        peer.wait()
        stack.stop()
    _report(arguments, results)


def _measure(
    arguments: argparse.Namespace, *runs: Callable[[list[list[int]], int], float]
) -> dict[int, list[list[float]]]:
    """Seconds of each run by concurrency, one after the other in turns."""
    results: dict[int, list[list[float]]] = {c: [[] for _ in runs] for c in arguments.concurrency}
    for run in runs:
        run(_prompts(8, "warm"), 8)
    for rep in range(arguments.reps):
        for concurrency, seconds in results.items():
            for i, run in enumerate(runs):
                seconds[i].append(run(_prompts(concurrency, rep), arguments.new_tokens))
                print(f"c{concurrency} rep {rep} {('miao', 'hf')[i]} {seconds[i][-1]:.2f} s")
    return results


def _ours(client: Client, prompts: list[list[int]], new_tokens: int) -> float:
    def call(prompt: list[int]) -> int:
        stream = client.generate(prompt, max_tokens=new_tokens, temperature=0, ignore_eos=True)
        return len(stream.result().token_ids)

    started = time.perf_counter()
    with ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(call, prompts)) == [new_tokens] * len(prompts)
    return time.perf_counter() - started


def _peer(process: subprocess.Popen[str]) -> Callable[[list[list[int]], int], float]:
    def run(prompts: list[list[int]], new_tokens: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([prompts, new_tokens]), file=process.stdin, flush=True)
        return float(process.stdout.readline())

    return run


def _prompts(count: int, rep: object) -> list[list[int]]:
    source = random.Random(f"{count}/{rep}")
    return [[source.randrange(300, 3800) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def _report(arguments: argparse.Namespace, results: dict[int, list[list[float]]]) -> None:
    rows = []
    print(f"\n{arguments.model} {arguments.dtype}, output tokens/s, medians of {arguments.reps}")
    for concurrency, seconds in results.items():
        rates = [concurrency * arguments.new_tokens / statistics.median(s) for s in seconds]
        ratios = sorted(hf / ours for ours, hf in zip(*seconds, strict=True))
        rows.append(
            {"concurrency": concurrency, "miao": rates[0], "hf": rates[1], "ratios": ratios}
        )
        print(
            f"c{concurrency:<3} miao {rates[0]:8.1f}   hf {rates[1]:8.1f}   "
            f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    if arguments.output:
        result = {"machine": describe_machine(), "rows": rows}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="qwen2-0.5b", choices=["qwen2-0.5b", "llama-tiny"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
