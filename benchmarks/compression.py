"""What compressing a model costs and brings: drift, size and speed, in one table.

    PYTHONPATH=worker python benchmarks/compression.py --output \
        benchmarks/results/compression-cpu.json --docs docs/compression.md

The drift is that of the bundled model on documents as its training draws them, from a seed
of their own: the perplexity of what it was trained to say, and how often its likeliest token
is bfloat16's. Sizes and times are those of a larger model with random weights, in the engine
alone: each scheme beside bfloat16, step by step in turns, and the table has the ratio. A
pruned model computes as long as a whole one.

A scheme that the JSON has speeds of is not timed again, so an interrupted run goes on where it
was; `--schemes int8 int4-weight` times those, again or not. Half a minute for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine
from models import ensure_model
from transformers import AutoTokenizer

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.batch import Batch
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.model_runner import load_runners
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams, SequenceRequest
from training.batches import IGNORED, Example, draw_documents, encode
from training.checker import held_out_questions

SCHEMES: dict[str, dict[str, Any]] = {
    "bfloat16": {},
    "float32": {"dtype": "float32"},
    "int8": {"quantize": "int8"},
    "int8-weight": {"quantize": "int8-weight"},
    "int4-weight": {"quantize": "int4-weight"},
    "KV cache int8": {"kv_cache_dtype": "int8"},
    "int8, KV cache int8": {"quantize": "int8", "kv_cache_dtype": "int8"},
    "int4-weight, KV cache int8": {"quantize": "int4-weight", "kv_cache_dtype": "int8"},
    "prune 2:4": {"prune": "2:4"},
    "prune 0.5": {"prune": "0.5"},
    "prune 0.3": {"prune": "0.3"},
}
TIMED = (
    *("float32", "int8", "int8-weight", "int4-weight"),
    *("KV cache int8", "int8, KV cache int8", "int4-weight, KV cache int8"),
)
_MAX_TOKENS = 512
_LONG = (16, 4096)  # sequences and tokens of each
_PREFILLED = 1024
_CACHE_BYTES = 1 << 30
_MARKS = ("<!-- table -->\n", "<!-- end of table -->\n")


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


@dataclass(frozen=True)
class Drift:
    perplexity: float
    likeliest: list[int]  # at every place that counts


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {"machine": describe_machine()}
    if arguments.output and arguments.output.exists():
        result |= json.loads(arguments.output.read_text())
    if "drift" in arguments.parts:
        result |= _all_drifts(arguments.documents)
    _write(arguments.output, result)
    if "speed" in arguments.parts:
        speeds = result.setdefault("speed", {})
        for name in arguments.schemes or [each for each in TIMED if each not in speeds]:
            result["machine"] = describe_machine()
            speeds[name] = _speed(name, arguments)
            print(name, json.dumps(speeds[name]), flush=True)
            _write(arguments.output, result)
    table = _table(result)
    print(table)
    if arguments.docs:
        _fill_in(arguments.docs, table)


# ---- drift


def _all_drifts(num_documents: int) -> dict[str, Any]:
    documents = _documents(num_documents)
    drifts = {name: _drift(changes, documents) for name, changes in SCHEMES.items()}
    reference = drifts["bfloat16"].likeliest
    return {
        "places": len(reference),
        "drift": {
            name: {
                "perplexity": drift.perplexity,
                "agreement": statistics.fmean(
                    a == b for a, b in zip(drift.likeliest, reference, strict=True)
                ),
            }
            for name, drift in drifts.items()
        },
    }


def _documents(count: int) -> list[Example]:
    tokenizer = AutoTokenizer.from_pretrained(bundled_model_path())
    drawn = draw_documents(random.Random(2026), held_out_questions())
    examples = (encode(tokenizer, document) for document in drawn)
    return list(itertools.islice((e for e in examples if len(e.ids) <= _MAX_TOKENS), count))


def _drift(changes: dict[str, Any], documents: list[Example]) -> Drift:
    runner, _ = load_runners(
        EngineConfig(str(bundled_model_path()), device="cpu", cache_bytes=1 << 27, **changes)
    )
    losses, likeliest = [], []
    for example in documents:
        sequence = _sequence(example.ids[:1], list(range(_MAX_TOKENS // 16)), row=0)
        # What is proposed has logits at every place.
        batch = Batch(decodes=[sequence], proposals=[tuple(example.ids[1:])])
        logits = runner.run(batch).float()[:-1]
        labels = torch.tensor(example.labels[1:])
        counted = labels != IGNORED
        losses += torch.nn.functional.cross_entropy(
            logits[counted], labels[counted], reduction="none"
        ).tolist()
        likeliest += logits[counted].argmax(-1).tolist()
    return Drift(math.exp(statistics.fmean(losses)), likeliest)


def _sequence(token_ids: list[int], blocks: list[int], row: int) -> Sequence:
    return Sequence(
        f"{row}",
        SamplingParams(max_tokens=1, seed=0),
        token_ids,
        num_prompt_tokens=1,
        block_table=blocks,
        row=row,
    )


# ---- size and speed


def _speed(scheme: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Of the scheme and of bfloat16 beside it: bytes, and medians of milliseconds."""
    path = Path(arguments.model)
    folder = str(path if path.is_dir() else ensure_model(arguments.model))
    engines = {}
    for name in ("bfloat16", scheme):
        config = EngineConfig(
            folder, device="cpu", cache_bytes=_CACHE_BYTES, prefix_cache=False, **SCHEMES[name]
        )
        engines[name] = Engine(config)
    rows: dict[str, Any] = {name: _sizes(engine) for name, engine in engines.items()}
    for batch in arguments.batch:
        for name, milliseconds in _decode(engines, batch, arguments.steps).items():
            rows[name].setdefault("decode_ms", {})[str(batch)] = milliseconds
    for name, milliseconds in _prefill(engines).items():
        rows[name]["prefill_ms"] = milliseconds
    runners = {name: engine._runner for name, engine in engines.items()}
    for name, milliseconds in _long(runners, max(3, arguments.steps // 3)).items():
        rows[name]["long_ms"] = milliseconds
    return rows


def _sizes(engine: Engine) -> dict[str, Any]:
    runner: Any = engine._runner
    if hasattr(runner, "_decoder"):
        names = ("qkv", "output", "gate_up", "down")
        layers = [getattr(layer, name) for layer in runner._decoder.layers for name in names]
        weight_bytes = sum(linear.weight_bytes for linear in (*layers, runner._decoder.head))
    else:  # no kernels for it
        weight_bytes = sum(x.numel() * x.element_size() for x in runner._model.parameters())
    tokens = engine.token_capacity * (1 << 30) // _CACHE_BYTES
    return {"weight_bytes": weight_bytes, "cache_tokens_per_gib": tokens}


def _request(key: str, num_tokens: int, new_tokens: int) -> SequenceRequest:
    prompt = tuple(random.Random(key).choices(range(300, 3800), k=num_tokens))
    return SequenceRequest(
        key, prompt, SamplingParams(max_tokens=new_tokens, seed=0, temperature=0)
    )


def _decode(engines: dict[str, Engine], batch: int, count: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        for i in range(batch):
            engine.add(_request(f"{batch}/{i}", 64, count + 1))
        engine.step()
    for _ in range(count):
        for name, engine in engines.items():
            times[name].append(_milliseconds(engine.step))
    for engine in engines.values():
        while engine.has_unfinished:
            engine.step()
    return {name: statistics.median(each) for name, each in times.items()}


def _prefill(engines: dict[str, Engine]) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in engines}
    for rep in range(3):
        for name, engine in engines.items():
            engine.add(_request(f"prefill/{rep}", _PREFILLED, 1))
            times[name].append(_milliseconds(engine.step))
    return {name: statistics.median(each) for name, each in times.items()}


def _long(runners: dict[str, Any], count: int) -> dict[str, float]:
    """A decode step of long sequences, whose keys and values are made up."""
    num_sequences, length = _LONG
    width = length // 16
    steps = {}
    for name, runner in runners.items():
        _make_up(runner._pool)
        batch = Batch(
            decodes=[
                _sequence([7] * length, list(range(i * width, (i + 1) * width)), row=i)
                for i in range(num_sequences)
            ]
        )
        steps[name] = lambda runner=runner, batch=batch: runner.run(batch)
    times = [{name: _milliseconds(step) for name, step in steps.items()} for _ in range(count)]
    return {name: statistics.median(each[name] for each in times) for name in steps}


def _make_up(pool: Any) -> None:
    for layer in pool.layers:
        for x in pool.tensors(layer):
            x.random_(-99, 99) if x.dtype == torch.int8 else x.normal_()
        for x in pool.scales(layer) or ():
            x.fill_(0.01)


def _milliseconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e3


# ---- the table


def _table(result: dict[str, Any]) -> str:
    """Sizes, and times over those of bfloat16 in the same run; bfloat16's own in milliseconds."""
    heading = ["", "perplexity", "same token", "weights, MiB", "tokens in 1 GiB of cache",
               "decode of 1", "of 8", "of 32", f"of {_LONG[0]} with {_LONG[1]:,} each",
               f"prefill of {_PREFILLED:,}"]  # fmt: skip
    lines = [heading, ["---"] + ["--:"] * (len(heading) - 1)]
    for name in SCHEMES:
        drift = result.get("drift", {}).get(name)
        cells = [name]
        cells += [f"{drift['perplexity']:.4f}", f"{drift['agreement']:.1%}"] if drift else ["", ""]
        lines.append(cells + _speed_cells(name, result.get("speed", {})))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _speed_cells(name: str, speeds: dict[str, Any]) -> list[str]:
    if name == "bfloat16" and speeds:
        rows = [pair["bfloat16"] for pair in speeds.values()]
        medians = [statistics.median(each) for each in zip(*map(_times, rows), strict=True)]
        return [*_size_cells(rows[0]), *(f"{each:.1f} ms" for each in medians)]
    pair = speeds.get(name)
    if pair is None:
        return [""] * 7
    ratios = zip(_times(pair[name]), _times(pair["bfloat16"]), strict=True)
    return [*_size_cells(pair[name]), *(f"{own / reference:.2f}" for own, reference in ratios)]


def _size_cells(row: dict[str, Any]) -> list[str]:
    return [f"{row['weight_bytes'] / 2**20:.0f}", f"{row['cache_tokens_per_gib']:,}"]


def _times(row: dict[str, Any]) -> list[float]:
    return [*(row["decode_ms"][batch] for batch in ("1", "8", "32")),
            row["long_ms"], row["prefill_ms"]]  # fmt: skip


def _fill_in(page: Path, table: str) -> None:
    before, rest = page.read_text().split(_MARKS[0])
    after = rest.split(_MARKS[1])[1]
    page.write_text(before + _MARKS[0] + table + _MARKS[1] + after)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    option = parser.add_argument
    option("--parts", nargs="+", default=["drift", "speed"], choices=["drift", "speed"])
    option("--documents", type=int, default=300)
    option("--model", default="qwen2-0.5b", help="a shape of models.py, or a folder")
    option("--schemes", nargs="+", choices=TIMED, help="to time; else those without speeds")
    option("--batch", type=int, nargs="+", default=[1, 8, 32])
    option("--steps", type=int, default=15)
    option("--threads", type=int, default=2)
    option("--output", type=Path, help="JSON; a part that is not run stays as it was")
    option("--docs", type=Path, help="the page whose table is written anew")
    return parser.parse_args()


if __name__ == "__main__":
    main()
