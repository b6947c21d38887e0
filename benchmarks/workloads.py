"""Five workloads through the whole service, or through the engine alone.

    python benchmarks/workloads.py --model qwen2-0.5b --quantize int8 --reps 3
    python benchmarks/workloads.py --model llama-tiny --engine

    c1, c8, c32   so many prompts of 128 random tokens at once, 128 new tokens each
    prefill       8 prompts of 1,024, 16 new
    prefix        16 prompts that share their first 768 of 800 tokens, 32 new, on a cold cache

Greedy, the end of sequence ignored. Prints output tokens per second, and the time to
the first token and between tokens as callers see them. Every repetition has prompts
of its own, so that only `prefix` finds anything in the prefix cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from machine import describe_machine
from models import ensure_model

from miao_client import AsyncClient, Timings
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest
from miao_worker.stack import Stack, StackSettings

VOCABULARY = range(300, 3800)
MAX_LENGTH = 2048


@dataclass(frozen=True)
class Workload:
    prompts: int
    prompt_tokens: int
    new_tokens: int
    shared_tokens: int = 0

    def draw(self, key: str) -> list[list[int]]:
        source = random.Random(key)
        shared = source.choices(VOCABULARY, k=self.shared_tokens)
        rest = self.prompt_tokens - self.shared_tokens
        return [shared + source.choices(VOCABULARY, k=rest) for _ in range(self.prompts)]


WORKLOADS = {
    "c1": Workload(1, 128, 128),
    "c8": Workload(8, 128, 128),
    "c32": Workload(32, 128, 128),
    "prefill": Workload(8, 1024, 16),
    "prefix": Workload(16, 800, 32, shared_tokens=768),
}


@dataclass
class Run:
    """Seconds: of all, to each first token, and between tokens on average.

    queued, answered: of the service alone, from acceptance until a worker took each
    generation, and until its first token was written.
    """

    total: float
    first: list[float]
    between: list[float]
    queued: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)


Runner = Callable[[list[list[int]], int], Run]


def main() -> None:
    arguments = _arguments()
    workloads = {name: WORKLOADS[name] for name in arguments.workloads}
    runs: dict[str, list[Run]] = {name: [] for name in workloads}
    with (
        _engine(arguments)
        if arguments.engine
        else service(str(ensure_model(arguments.model)), arguments.quantize) as run
    ):
        for name in ("c1", "c8"):
            run(WORKLOADS[name].draw("warm"), 8)
        for rep in range(arguments.reps):
            for name, workload in workloads.items():
                measured = run(workload.draw(f"{name}/{rep}"), workload.new_tokens)
                runs[name].append(measured)
                print(f"{name:8s} rep {rep}  {_line(workload, [measured])}", flush=True)
    print("\nmedians")
    for name, workload in workloads.items():
        print(f"{name:8s} {_line(workload, runs[name])}")
    if arguments.output:
        result = {
            "machine": describe_machine(),
            "rates": {n: [_rate(w, r) for r in runs[n]] for n, w in workloads.items()},
            "runs": {name: [asdict(run) for run in each] for name, each in runs.items()},
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def _rate(workload: Workload, run: Run) -> float:
    return workload.prompts * workload.new_tokens / run.total


def _line(workload: Workload, runs: list[Run]) -> str:
    median = statistics.median
    rate = median(_rate(workload, run) for run in runs)
    first = median(statistics.fmean(run.first) for run in runs)
    between = median(statistics.fmean(run.between) for run in runs)
    return (
        f"{rate:8.1f} tokens/s   first token {first * 1e3:8.1f} ms   "
        f"between tokens {between * 1e3:7.2f} ms"
    )


@contextmanager
def service(model: str | None, quantize: str | None = None) -> Iterator[Runner]:
    """A stack of its own, called through the SDK; the bundled model where none is named."""
    options = ["--model", model, "--max-model-length", str(MAX_LENGTH)] if model else []
    if quantize:
        options += ["--quantize", quantize]
    stack = Stack(StackSettings("127.0.0.1:0", options), lambda *_: None)
    stack.start()
    try:
        with Callers(stack.address) as callers:
            yield callers.call_all
    finally:
        stack.stop()


class Callers:
    """Many callers at once: the SDK's asynchronous client, in one thread."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> Callers:
        self._loop = asyncio.Runner()
        self._client = self._loop.run(_connect(self._address))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run(self._client.close())
        self._loop.close()

    def call_all(self, prompts: list[list[int]], new_tokens: int) -> Run:
        """One call for each prompt, all begun at once."""
        return self._loop.run(_call_all(self._client, prompts, new_tokens))


async def _connect(address: str) -> AsyncClient:
    return AsyncClient(address)  # belongs to the loop it is made in


async def _call_all(client: AsyncClient, prompts: list[list[int]], new_tokens: int) -> Run:
    started = time.perf_counter()

    async def call(prompt: list[int]) -> tuple[float, float, int, Timings]:
        stream = client.generate(prompt, max_tokens=new_tokens, temperature=0, ignore_eos=True)
        first = last = 0.0
        count = 0
        async for chunk in stream:
            last = time.perf_counter()
            first = first or last
            count += len(chunk.token_ids)
        timings = (await stream.result()).timings
        assert timings is not None
        return first, last, count, timings

    results = await asyncio.gather(*map(call, prompts))
    total = time.perf_counter() - started
    assert all(count == new_tokens for _, _, count, _ in results)
    return Run(
        total,
        [first - started for first, _, _, _ in results],
        [(last - first) / (new_tokens - 1) for first, last, _, _ in results],
        [timings.queued_seconds or 0.0 for *_, timings in results],
        [timings.first_token_seconds or 0.0 for *_, timings in results],
    )


@contextmanager
def _engine(arguments: argparse.Namespace) -> Iterator[Runner]:
    torch.set_num_threads(arguments.threads)
    config = EngineConfig(
        str(ensure_model(arguments.model)),
        device="cpu",
        quantize=arguments.quantize,
        max_model_length=MAX_LENGTH,
    )
    engine = Engine(config)
    num_runs = 0

    def run(prompts: list[list[int]], new_tokens: int) -> Run:
        nonlocal num_runs
        num_runs += 1
        sampling = SamplingParams(max_tokens=new_tokens, seed=0, temperature=0)
        started = time.perf_counter()
        times: dict[str, list[float]] = {}
        for i, prompt in enumerate(prompts):
            engine.add(SequenceRequest(f"{num_runs}/{i}", tuple(prompt), sampling))
        while engine.has_unfinished:
            for output in engine.step().outputs:
                times.setdefault(output.sequence_id, []).append(time.perf_counter())
        total = time.perf_counter() - started
        assert all(len(each) == new_tokens for each in times.values())
        between = [(each[-1] - each[0]) / (new_tokens - 1) for each in times.values()]
        return Run(total, [each[0] - started for each in times.values()], between)

    yield run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--model", default="qwen2-0.5b", choices=["qwen2-0.5b", "llama-tiny"])
    option("--engine", action="store_true", help="without the service")
    option("--quantize", choices=["int8"])
    option("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    option("--reps", type=int, default=3)
    option("--threads", type=int, default=2, help="of the engine alone")
    option("--output", type=Path, help="write the results here as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
