"""What it costs that output follows a schema.

    python benchmarks/guided.py --rows 1 8 32 --steps 120

`steps`: the bundled model (or --model) in two engines whose steps take turns, one with a
schema for every row and one without; the lower quartiles, and the difference as a share of the
guided step. `masks`: a vocabulary of --vocabulary tokens (random words, or those of
--tokenizer) without any model: milliseconds to find the masks of a step, which a model's
step hides as far as a processor is free meanwhile, and to apply them, which nothing hides.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from llguidance import LLMatcher
from machine import describe_machine
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.guidance.guide import Guide
from miao_worker.engine.guidance.masks import MaskFinder
from miao_worker.engine.guidance.vocabulary import load_vocabulary
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams, SequenceRequest

_SCHEMA = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 60},
            "count": {"type": "integer", "minimum": 0, "maximum": 99999},
            "kind": {"enum": ["order", "complaint", "question"]},
            "when": {"type": "string", "format": "date-time"},
        },
        "required": ["name", "count", "kind", "when"],
        "additionalProperties": False,
    },
}
_GRAMMAR = LLMatcher.grammar_from_json_schema(
    json.dumps(_SCHEMA), overrides={"whitespace_pattern": "[ ]"}
)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def quiet(times: list[float]) -> float:
    """The lower quartile: what it takes while nothing else runs."""
    return statistics.quantiles(times, n=4)[0]


def make_engine(model: str, rows: int, threads: int) -> Engine:
    config = EngineConfig(
        model, device="cpu", max_sequences=rows, num_threads=threads, cache_bytes=1 << 29
    )
    engine = Engine(config)
    tokenizer = (Path(model) / "tokenizer.json").read_text("utf-8")
    engine.follow_grammars(tokenizer, [0])
    return engine


def fill(engine: Engine, rows: int, steps: int, grammar: str | None) -> None:
    for row in range(rows):
        params = SamplingParams(max_tokens=steps + 40, seed=row, temperature=1.0)
        engine.add(SequenceRequest(str(row), (5, 6, 7, 8), params, grammar=grammar))
    for _ in range(20):  # all have entered, and the first masks are known
        engine.step()


def measure_steps(model: str, rows: int, steps: int, threads: int) -> dict[str, object]:
    guided, free = (make_engine(model, rows, threads) for _ in range(2))
    fill(guided, rows, steps, _GRAMMAR)
    fill(free, rows, steps, None)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        times[0].append(seconds(guided.step))
        times[1].append(seconds(free.step))
    with_schema, without = (quiet(t) * 1e3 for t in times)
    return {
        "rows": rows,
        "step_ms": round(with_schema, 3),
        "step_without_ms": round(without, 3),
        "share": round(1 - without / with_schema, 3),
    }


def measure_masks(tokenizer_json: str, size: int, rows: int, steps: int) -> dict[str, object]:
    vocabulary = load_vocabulary(tokenizer_json, size, [0])
    finder = MaskFinder(size, [0])
    sequences = []
    for row in range(rows):
        params = SamplingParams(max_tokens=10**6, seed=row, stop_token_ids=frozenset({0}))
        sequence = Sequence(str(row), params, [1], 1)
        sequence.guide = Guide(LLMatcher(vocabulary, _GRAMMAR, log_level=0))
        sequences.append(sequence)
    noise = torch.Generator().manual_seed(1)
    found, applied = [], []
    for _ in range(steps):
        logits = torch.rand(rows, size, generator=noise)
        start = time.perf_counter()
        masks = finder.begin(sequences)
        assert masks is not None
        masks.wait()
        found.append(time.perf_counter() - start)
        applied.append(seconds(lambda masks=masks, logits=logits: masks.apply_(logits)))
        for sequence, token_id in zip(sequences, logits.argmax(-1).tolist(), strict=True):
            sequence.learn(token_id)
    return {
        "rows": rows,
        "find_ms": round(quiet(found) * 1e3, 3),
        "apply_ms": round(quiet(applied) * 1e3, 3),
    }


def random_tokenizer(size: int) -> str:
    """Byte-level tokens: all bytes, then random words and marks of JSON."""
    draw = random.Random(2)
    byte_forms = pre_tokenizers.ByteLevel.alphabet()
    vocab = {"<|end|>": 0} | {form: i for i, form in enumerate(sorted(byte_forms), 1)}
    letters = "etaoinshrdlcumwfgypbvk0123456789"
    for form in ['{"', '":', '",', '"}', '"},', "},", "Ġ{", 'Ġ"', '":Ġ', "T00", ":00", "-01"]:
        vocab.setdefault(form, len(vocab))
    while len(vocab) < size:
        word = "".join(draw.choices(letters, k=draw.randint(2, 9)))
        vocab.setdefault("Ġ" * draw.randint(0, 1) + word, len(vocab))
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    return str(tokenizer.to_str())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(bundled_model_path()), help="a folder")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, for real tokens")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    given = options.tokenizer
    tokenizer = given.read_text("utf-8") if given else random_tokenizer(options.vocabulary)
    torch.set_num_threads(options.threads)
    result: dict[str, object] = {"machine": describe_machine(), "model": Path(options.model).name}
    result["vocabulary"] = options.vocabulary
    result["load_vocabulary_s"] = round(
        seconds(lambda: load_vocabulary(tokenizer, options.vocabulary, [0])), 3
    )
    result["steps"] = [
        measure_steps(options.model, rows, options.steps, options.threads) for rows in options.rows
    ]
    result["masks"] = [
        measure_masks(tokenizer, options.vocabulary, rows, options.steps) for rows in options.rows
    ]
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
