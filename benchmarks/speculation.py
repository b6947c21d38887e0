"""What speculation gains on text that repeats itself and costs on text that does not.

    python benchmarks/speculation.py --model miao-tiny --output FILE
    python benchmarks/speculation.py --model qwen2-0.5b --output FILE

The engine alone, 1 and 8 sequences at once, each way of proposing in turns in one
run. Reports tokens per second (medians), the ratio to plain decoding, and how
many of the proposed tokens were accepted. All ways give the same tokens where
the model computes in float32; the program checks that.

miao-tiny    repetitive: sentences said three times, and on past its end; ordinary: questions
             and their answers to the end; both greedy
qwen2-0.5b   random weights, greedy; repetitive: a bias makes it say one word, so every
             proposal is right and this is the most that can be gained; ordinary: it
             wanders; its draft model, its own first two layers, then knows nothing
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from machine import describe_machine
from models import ensure_model
from tokenizers import Tokenizer

from miao_worker.bundled import BUNDLED_MODEL_NAME, bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest

QUESTIONS = (
    "为什么我的手机没有信号？",
    "Set a reminder for 7 tomorrow morning.",
    "这是一个美好的春天。",
    "What can you do for me?",
    "你好，这是我的第一篇博客。",
    "How do I cancel my order?",
    "请告诉我今天的天气。",
    "Tell me about your return policy.",
)
REPETITIONS = tuple(f"{text} {text} {text} " for text in QUESTIONS)
METHODS = {"plain": "off", "ngram": "ngram", "draft": "draft"}


@dataclass(frozen=True)
class Text:
    """Prompts of one kind, and the temperature at which the model goes on from them."""

    name: str
    prompts: list[tuple[int, ...]]
    temperature: float
    stop_token_ids: frozenset[int] = frozenset()
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass
class Runs:
    """What the repetitions of one way on one text gave."""

    rates: list[float] = field(default_factory=list)
    proposed: int = 0
    accepted: int = 0
    tokens: list[tuple[int, ...]] = field(default_factory=list)


def main() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # as the worker has it; read when torch is loaded
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    arguments = _arguments()
    folder, texts = _subject(arguments.model)
    methods = ["plain", "ngram"] + (["draft"] if arguments.model == "qwen2-0.5b" else [])
    engines = {method: _engine(arguments, folder, method) for method in methods}
    rows = []
    for text in texts:
        for batch in arguments.batch:
            results = {method: Runs() for method in methods}
            for rep in range(-1, arguments.reps):  # the first one warms up
                for method, runs in results.items():
                    _run(engines[method], text, batch, arguments.new_tokens, rep, runs)
            rows += _report(text, batch, results, must_agree=arguments.dtype == "float32")
    if arguments.output:
        result = {
            "machine": describe_machine(),
            "model": arguments.model,
            "dtype": engines["plain"].dtype,
            "new_tokens": arguments.new_tokens,
            "reps": arguments.reps,
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


def _subject(model: str) -> tuple[Path, list[Text]]:
    if model == BUNDLED_MODEL_NAME:
        folder = bundled_model_path()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

        def prompts(lines: tuple[str, ...]) -> list[tuple[int, ...]]:
            return [tuple(tokenizer.encode(line).ids) for line in lines]

        return folder, [
            Text("repetitive", prompts(REPETITIONS), 0.0),
            Text("ordinary", prompts(QUESTIONS), 0.0, _stop_token_ids(folder)),
        ]
    draw = random.Random(0)
    random_prompts = [tuple(draw.choices(range(300, 3800), k=64)) for _ in range(8)]
    return ensure_model(model), [
        Text("repetitive", random_prompts, 0.0, logit_bias=((1000, 100.0),)),
        Text("ordinary", random_prompts, 0.0),
    ]


def _stop_token_ids(folder: Path) -> frozenset[int]:
    ids = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    return frozenset(ids if isinstance(ids, list) else [ids])


def _engine(arguments: argparse.Namespace, folder: Path, method: str) -> Engine:
    draft = str(ensure_model("qwen2-draft")) if method == "draft" else None
    return Engine(
        EngineConfig(
            str(folder),
            device="cpu",
            dtype=arguments.dtype,
            max_model_length=512,
            max_sequences=max(arguments.batch),
            num_threads=arguments.threads,
            prefix_cache=False,
            speculation=METHODS[method],
            draft_model=draft,
        )
    )


def _run(engine: Engine, text: Text, batch: int, new_tokens: int, rep: int, runs: Runs) -> None:
    before = engine.step().stats
    said: dict[str, tuple[int, ...]] = {}
    for i in range(batch):
        sampling = SamplingParams(
            new_tokens,
            i,
            text.temperature,
            stop_token_ids=text.stop_token_ids,
            logit_bias=text.logit_bias,
        )
        engine.add(SequenceRequest(str(i), text.prompts[i], sampling))
    engine.step()  # the prompts
    started = time.perf_counter()
    while engine.has_unfinished:
        for output in engine.step().outputs:
            said[output.sequence_id] = said.get(output.sequence_id, ()) + output.token_ids
    seconds = time.perf_counter() - started
    runs.tokens = [said[str(i)] for i in range(batch)]
    if rep < 0:
        return
    after = engine.step().stats
    runs.rates.append(sum(map(len, said.values())) / seconds)
    runs.proposed += after.num_proposed_tokens - before.num_proposed_tokens
    runs.accepted += after.num_accepted_tokens - before.num_accepted_tokens


def _report(
    text: Text, batch: int, results: dict[str, Runs], *, must_agree: bool
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    plain = results["plain"]
    for method, runs in results.items():
        if must_agree:
            assert runs.tokens == plain.tokens, f"{method} says something else"
        ratio = statistics.median(a / b for a, b in zip(runs.rates, plain.rates, strict=True))
        rate = statistics.median(runs.rates)
        row: dict[str, object] = {
            "text": text.name,
            "batch": batch,
            "method": method,
            "tokens_per_second": round(rate, 1),
            "ratio": round(ratio, 3),
            "proposed": runs.proposed,
            "accepted": runs.accepted,
            "same_tokens": runs.tokens == plain.tokens,
        }
        rows.append(row)
        print(
            f"{text.name:10s} batch {batch:2d} {method:6s} {rate:8.1f} tokens/s   "
            f"ratio {ratio:5.2f}   accepted {runs.accepted} of {runs.proposed}",
            flush=True,
        )
    return rows


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="miao-tiny", choices=["miao-tiny", "qwen2-0.5b"])
    parser.add_argument("--dtype", default="auto", choices=["auto", "bfloat16", "float32"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
