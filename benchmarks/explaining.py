"""How long other callers wait for their tokens while explanations run beside them.

    python benchmarks/explaining.py --model miao-tiny qwen2-0.5b

The whole service with one worker. Some callers read one generation after another; beside
them runs nobody, or one caller who asks for one explanation after another, by each method
in turn. Each gap between two tokens of a caller counts: the median, the 99th percentile
and the longest, and how many seconds an explanation of a whole output takes, alone and
beside the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from machine import describe_machine
from models import ensure_model

from miao_client import Client, MiaoError, TokenIds
from miao_worker.bundled import BUNDLED_MODEL_NAME, bundled_model_path
from miao_worker.stack import Stack, StackSettings

EXPLAINING = ("leave_one_out", "gradient_x_input", "integrated_gradients")
METHODS = (None, *EXPLAINING)
STEPS = 8  # of the integral
OUTPUT_TOKENS = 200  # of a generation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=[BUNDLED_MODEL_NAME], help="see models.py")
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--input-tokens", type=int, default=64, help="of what is explained")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each method in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    result = {"machine": describe_machine()} | {
        name: getattr(options, name) for name in ("callers", "input_tokens", "seconds", "rounds")
    }
    for model in options.model:
        with _service(model) as target:
            result[model] = _measure(target, options)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


@contextmanager
def _service(model: str) -> Iterator[str]:
    bundled = model == BUNDLED_MODEL_NAME
    folder = bundled_model_path() if bundled else ensure_model(model)
    worker = ["--model", str(folder), "--name", model, "--device", "cpu", "--cache-gib", "0.5"]
    stack = Stack(StackSettings("127.0.0.1:0", worker), lambda *_: None)
    try:
        stack.start()
        yield stack.address
    finally:
        stack.stop()


def _measure(target: str, options: argparse.Namespace) -> dict[str, object]:
    explained = TokenIds([100 + 37 * i % 3000 for i in range(options.input_tokens)])
    alone: dict[str, float] = {}
    with Client(target, timeout=300) as client:
        _explain(client, explained, "gradient_x_input")  # loads the weights for gradients
        for method in EXPLAINING:
            began = time.perf_counter()
            _explain(client, explained, method)
            alone[method] = time.perf_counter() - began
    gaps: defaultdict[str, list[float]] = defaultdict(list)
    beside: defaultdict[str, list[float]] = defaultdict(list)
    for _ in range(options.rounds):
        for method in METHODS:
            name = method or "nobody"
            _together(target, options, explained, method, gaps[name], beside[name])
    result: dict[str, object] = {}
    for method in METHODS:
        name = method or "nobody"
        found = sorted(gaps[name])
        result[name] = {
            "gap_p50_ms": round(statistics.median(found) * 1e3, 2),
            "gap_p99_ms": round(found[int(0.99 * len(found))] * 1e3, 1),
            "gap_longest_ms": round(found[-1] * 1e3, 1),
            "tokens_per_second": round(len(found) / options.rounds / options.seconds, 1),
        }
        if method:
            took = beside[name]
            result[name] |= {  # type: ignore[operator]
                "explanation_alone_s": round(alone[method], 3),
                "explanation_beside_s": round(statistics.median(took), 3) if took else None,
                "explanations": len(took),
            }
        print(name, json.dumps(result[name]), flush=True)
    return result


def _explain(
    client: Client, explained: TokenIds, method: str, timeout: float | None = None
) -> None:
    steps = STEPS if method == "integrated_gradients" else None
    client.explain(
        explained, max_tokens=8, method=method, whole_output=True, steps=steps, timeout=timeout
    )


def _together(
    target: str,
    options: argparse.Namespace,
    explained: TokenIds,
    method: str | None,
    gaps: list[float],
    took: list[float],
) -> None:
    """Let all run for some seconds; what comes in the first one does not count."""
    begin = time.perf_counter() + 1.0
    end = begin + options.seconds

    def read(number: int) -> None:
        with Client(target, timeout=300) as client:
            while time.perf_counter() < end:
                before = None
                prompt = TokenIds([5 + number, 9, 50])
                stream = client.generate(
                    prompt, max_tokens=OUTPUT_TOKENS, ignore_eos=True, temperature=0
                )
                for _ in stream:
                    now = time.perf_counter()
                    if before is not None and begin < before and now < end:
                        gaps.append(now - before)
                    before = now
                    if now >= end:
                        stream.cancel()
                        break

    def explain() -> None:
        assert method is not None
        with Client(target, timeout=300) as client:
            while (began := time.perf_counter()) < end:
                with suppress(MiaoError):  # that it is over when the others are
                    _explain(client, explained, method, timeout=end - began)
                    took.append(time.perf_counter() - began)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(options.callers)]
    if method is not None:
        threads.append(threading.Thread(target=explain))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
