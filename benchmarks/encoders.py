"""Encoder batches by length beside batches as requests come, in turns, so that noise hits both.

    python benchmarks/encoders.py --rounds 5 --output benchmarks/results/encoders-cpu.json

A random BERT of a known shape in float32; texts whose lengths are drawn from a log-normal
distribution, as sentences and paragraphs are mixed. Each way computes all of them:

naive      in the order of arrival, a fixed number of texts at once, padded to the longest
length     as the engine does: windows of like length within a token budget
alone      one text at a time: no padding, and nothing shared
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
from machine import describe_machine
from transformers import BertConfig, BertModel

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.activation import Activation
from miao_worker.engine.encoder.engine import EncoderEngine
from miao_worker.engine.encoder.loader import LoadedEncoder
from miao_worker.engine.encoder.runner import PaddedRunner
from miao_worker.engine.encoder.sentence_files import SentenceRecipe
from miao_worker.engine.encoder.types import EncoderInput, EncoderTask, EncodingRequest

SHAPES = {  # hidden size, layers, heads, intermediate size
    "minilm": (384, 6, 12, 1536),
    "bert-base": (768, 12, 12, 3072),
}
LONGEST = 512
VOCAB = 30522


class CountingRunner(PaddedRunner):
    """Counts what it computes, padding included."""

    num_padded = 0

    def run(self, inputs: list[EncoderInput]) -> list[torch.Tensor]:
        self.num_padded += len(inputs) * max(len(each.token_ids) for each in inputs)
        return super().run(inputs)


def make_runner(shape: str) -> CountingRunner:
    size, layers, heads, intermediate = SHAPES[shape]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    return CountingRunner(
        LoadedEncoder(
            task=EncoderTask.EMBED,
            model=model,
            recipe=SentenceRecipe(),
            layers=torch.nn.Sequential(),
            dimensions=size,
            activation=Activation.IDENTITY,
            labels=(),
            max_length=LONGEST,
            pad_token_id=0,
        )
    )


def draw_texts(count: int, median: float, spread: float) -> list[EncoderInput]:
    draw = random.Random(0)
    lengths = (int(draw.lognormvariate(0, spread) * median) for _ in range(count))
    lengths = (min(LONGEST, max(3, length)) for length in lengths)
    return [EncoderInput(tuple(draw.choices(range(1000, VOCAB), k=n))) for n in lengths]


def naive(runner: CountingRunner, texts: list[EncoderInput], batch: int) -> None:
    for first in range(0, len(texts), batch):
        runner.run(texts[first : first + batch])


def by_length(runner: CountingRunner, texts: list[EncoderInput], max_tokens: int) -> None:
    engine = EncoderEngine(EngineConfig("", max_batch_tokens=max_tokens), runner)
    for index, text in enumerate(texts):  # as from so many callers
        engine.add(EncodingRequest(str(index), EncoderTask.EMBED, (text,)))
    while engine.has_unfinished:
        engine.step()


def measure(options: argparse.Namespace) -> dict[str, object]:
    runner = make_runner(options.shape)
    texts = draw_texts(options.texts, options.median_tokens, options.spread)
    num_tokens = sum(len(text.token_ids) for text in texts)
    ways: dict[str, Callable[[], None]] = {
        "naive-32": lambda: naive(runner, texts, 32),
        "length-2048": lambda: by_length(runner, texts, 2048),
        "length-512": lambda: by_length(runner, texts, 512),
        "alone": lambda: naive(runner, texts, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    padded: dict[str, int] = {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            runner.num_padded = 0
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
            padded[name] = runner.num_padded
    base = statistics.median(seconds["naive-32"])
    return {
        "texts": len(texts),
        "tokens": num_tokens,
        "ways": {
            name: {
                "tokens_per_second": round(num_tokens / statistics.median(found)),
                "padding_share": round(1 - num_tokens / padded[name], 3),
                "times_as_fast_as_naive": round(base / statistics.median(found), 2),
            }
            for name, found in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--median-tokens", type=float, default=32)
    parser.add_argument("--spread", type=float, default=1.0, help="sigma of the log-normal")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {key: value for key, value in vars(options).items() if key != "output"}
    result = {"machine": describe_machine(), "settings": settings, "result": measure(options)}
    text = json.dumps(result, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
