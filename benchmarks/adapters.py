"""What a step costs whose sequences have adapters, beside one whose sequences have none.

    python benchmarks/adapters.py --model qwen2-0.5b --rows 1 8 32

Random adapters of every linear layer of each block, of one rank. The kinds of batch
take turns within each round, on the same engine, so that noise hits all of them:

none    no sequence has an adapter
one     all have the same
four    they have four, in turn
half    every other sequence has one of four, the others none

Medians, and what each kind takes in terms of `none`. `off` is an engine that was made
without room for adapters: whether room alone costs anything.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
from machine import describe_machine
from models import ensure_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from miao_worker.bundled import BUNDLED_MODEL_NAME, bundled_model_path
from miao_worker.engine.adapters.identity import digest_of
from miao_worker.engine.adapters.linears import linear_modules
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest

NUM_ADAPTERS = 4
KINDS = ("off", "none", "one", "four", "half")


def main() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # as the worker has it; read when torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        os.execv(sys.executable, [sys.executable, *sys.argv])
    options = _arguments()
    bundled = options.model == BUNDLED_MODEL_NAME
    folder = bundled_model_path() if bundled else ensure_model(options.model)
    with tempfile.TemporaryDirectory() as place:
        adapters = _write_adapters(folder, Path(place), options.rank)
        engines = {n: _engine(folder, options, n) for n in (0, NUM_ADAPTERS)}
        ids = [digest_of(adapter) for adapter in adapters]
        for adapter_id, adapter in zip(ids, adapters, strict=True):
            engines[NUM_ADAPTERS].register_adapter(adapter_id, adapter)
        results = [_measure(engines, ids, rows, options) for rows in options.rows]
    result = {
        "machine": describe_machine(),
        "model": options.model,
        "dtype": str(engines[0].dtype),
        "rank": options.rank,
        "prompt": options.prompt_length,
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def _write_adapters(model: Path, place: Path, rank: int) -> list[Path]:
    """Folders as peft writes them; each adapter's share is about a tenth of what is there."""
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    modules = linear_modules(made)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": "all-linear"}
    folders = []
    for number in range(NUM_ADAPTERS):
        torch.manual_seed(number)
        tensors = {}
        for path, (inputs, outputs) in modules.items():
            name = f"base_model.model.{path}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs) / inputs**0.5
            tensors[f"{name}.lora_B.weight"] = 0.02 * torch.randn(outputs, rank)
        folder = place / str(number)
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(settings), "utf-8")
        save_file(tensors, folder / "adapter_model.safetensors")
        folders.append(folder)
    return folders


def _engine(folder: Path, options: argparse.Namespace, max_adapters: int) -> Engine:
    config = EngineConfig(
        str(folder),
        device=options.device,
        max_model_length=1024,
        max_sequences=max(options.rows),
        cache_bytes=1 << 28,
        prefix_cache=False,
        num_threads=options.threads,
        max_adapters=max_adapters,
        explain="off",
    )
    return Engine(config)


def _adapter_of(kind: str, row: int, ids: list[str]) -> str | None:
    match kind:
        case "one":
            return ids[0]
        case "four":
            return ids[row % NUM_ADAPTERS]
        case "half":
            return ids[row // 2 % NUM_ADAPTERS] if row % 2 else None
    return None


def _measure(
    engines: dict[int, Engine], ids: list[str], rows: int, options: argparse.Namespace
) -> dict[str, object]:
    kinds = [kind for kind in KINDS if rows > 1 or kind not in ("four", "half")]
    prefills, steps = defaultdict(list), defaultdict(list)
    for number in range(options.rounds + 1):
        for kind in kinds:
            engine = engines[0 if kind == "off" else NUM_ADAPTERS]
            found = _run(engine, kind, rows, ids, options)
            if number:  # the first round warms up
                prefills[kind].append(found[0])
                steps[kind] += found[1:]
    base, base_prefill = statistics.median(steps["none"]), statistics.median(prefills["none"])
    result: dict[str, object] = {"rows": rows}
    for kind in kinds:
        step, prefill = statistics.median(steps[kind]), statistics.median(prefills[kind])
        result[kind] = {
            "step_ms": round(step * 1e3, 3),
            "step_ratio": round(step / base, 3),
            "prefill_ms": round(prefill * 1e3, 2),
            "prefill_ratio": round(prefill / base_prefill, 3),
        }
        print(rows, kind, result[kind], flush=True)
    return result


def _run(
    engine: Engine, kind: str, rows: int, ids: list[str], options: argparse.Namespace
) -> list[float]:
    """Seconds of the prompts' step and of each step behind it."""
    draw = random.Random(rows)
    for row in range(rows):
        prompt = tuple(draw.choices(range(5, engine.vocab_size), k=options.prompt_length))
        sampling = SamplingParams(max_tokens=options.steps + 4, seed=row, temperature=0)
        adapter = _adapter_of(kind, row, ids)
        engine.add(SequenceRequest(f"{kind}{row}", prompt, sampling, adapter=adapter))
    seconds = []
    for _ in range(options.steps + 2):
        start = time.perf_counter()
        engine.step()
        seconds.append(time.perf_counter() - start)
    for row in range(rows):
        engine.cancel(f"{kind}{row}")
    while engine.has_unfinished:
        engine.step()
    return [seconds[0], *seconds[2:]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=BUNDLED_MODEL_NAME, help="see models.py")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-length", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
