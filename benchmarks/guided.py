"""What it costs that output follows a schema.

    python benchmarks/guided.py --rows 1 8 32 --steps 120

`steps`: a model of models.py, the bundled one by default, in three engines whose steps take
turns: one without a schema (free), one with a schema for every row, far from max_tokens
(guided), and one where max_tokens are so near that room for the end is looked at behind
each token (closing). Who ends is followed by another; steps in which one enters do not
count. Lower quartiles, and the differences as shares of the slower step.
`masks`: a vocabulary of --vocabulary tokens (random words, or those of
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
from models import ensure_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from miao_worker.bundled import BUNDLED_MODEL_NAME, bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.guidance.guide import Guide
from miao_worker.engine.guidance.masks import MaskFinder
from miao_worker.engine.guidance.vocabulary import load_vocabulary
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams, SequenceRequest

_FAR, _NEAR = 700, 100  # max_tokens
_SCHEMA = {
    "type": "array",
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


def grammar(min_items: int) -> str:
    schema = json.dumps(_SCHEMA | {"minItems": min_items})
    made: str = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": "[ ]"})
    return made


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def quiet(times: list[float]) -> float:
    """The lower quartile: what it takes while nothing else runs."""
    return statistics.quantiles(times, n=4)[0]


def make_engine(folder: Path, rows: int, threads: int) -> Engine:
    config = EngineConfig(
        str(folder),
        device="cpu",
        max_model_length=1024,
        max_sequences=rows,
        num_threads=threads,
        cache_bytes=1 << 28,
        explain="off",
    )
    engine = Engine(config)
    engine.follow_grammars((folder / "tokenizer.json").read_text("utf-8"), [0])
    return engine


class Rows:
    """So many sequences at any time in an engine."""

    def __init__(self, engine: Engine, rows: int, max_tokens: int, guided: bool) -> None:
        self._engine = engine
        self._rows, self._max_tokens = rows, max_tokens
        self._grammar = grammar(1) if guided else None
        self._running: set[str] = set()
        self._num_added = 0
        self.times: list[float] = []
        for _ in range(rows):
            self._add()

    def step(self) -> None:
        """Time a step, if all rows decode in it."""
        started = time.perf_counter()
        outputs = self._engine.step().outputs
        passed = time.perf_counter() - started
        assert all(output.error is None for output in outputs), outputs
        ended = {output.sequence_id for output in outputs if output.finish_reason is not None}
        if len(outputs) == self._rows and self._is_settled:
            self.times.append(passed)
        self._is_settled = len(outputs) == self._rows and not ended
        self._running -= ended
        for _ in ended:
            self._add()

    def leave(self) -> None:
        """Leave the engine empty."""
        for name in self._running:
            self._engine.cancel(name)
        while self._engine.has_unfinished:
            self._engine.step()

    def _add(self) -> None:
        name = f"{self._rows}-{self._num_added}"
        params = SamplingParams(self._max_tokens, seed=self._num_added, temperature=1.0)
        self._engine.add(SequenceRequest(name, (5, 6, 7, 8), params, grammar=self._grammar))
        self._running.add(name)
        self._num_added += 1
        self._is_settled = False


def measure_steps(engines: list[Engine], rows: int, steps: int) -> dict[str, object]:
    """Free, guided and closing, in this order."""
    kinds = [(_FAR, False), (_FAR, True), (_NEAR, True)]
    all_rows = [Rows(engine, rows, *kind) for engine, kind in zip(engines, kinds, strict=True)]
    while min(len(each.times) for each in all_rows) < steps:
        for each in all_rows:
            each.step()
    for each in all_rows:
        each.leave()
    free, guided, closing = (quiet(each.times) * 1e3 for each in all_rows)
    result = {
        "rows": rows,
        "free_ms": round(free, 3),
        "guided_ms": round(guided, 3),
        "closing_ms": round(closing, 3),
        "guided_share": round(1 - free / guided, 3),
        "closing_share": round(1 - guided / closing, 3),
    }
    print(result, flush=True)
    return result


def measure_masks(tokenizer_json: str, size: int, rows: int, steps: int) -> dict[str, object]:
    vocabulary = load_vocabulary(tokenizer_json, size, [0])
    finder = MaskFinder(size, [0])
    sequences = []
    for row in range(rows):
        params = SamplingParams(max_tokens=10**6, seed=row, stop_token_ids=frozenset({0}))
        sequence = Sequence(str(row), params, [1], 1)
        sequence.guide = Guide(LLMatcher(vocabulary, grammar(1000), log_level=0))
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
    parser.add_argument("--model", nargs="+", default=[BUNDLED_MODEL_NAME])
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
    result: dict[str, object] = {"machine": describe_machine(), "vocabulary": options.vocabulary}
    result["load_vocabulary_s"] = round(
        seconds(lambda: load_vocabulary(tokenizer, options.vocabulary, [0])), 3
    )
    for model in options.model:
        bundled = model == BUNDLED_MODEL_NAME
        folder = bundled_model_path() if bundled else ensure_model(model)
        engines = [make_engine(folder, max(options.rows), options.threads) for _ in range(3)]
        result[f"steps of {model}"] = [
            measure_steps(engines, rows, options.steps) for rows in options.rows
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
