"""Encoder batches by length beside transformers' own, in turns, so that noise hits both.

    python benchmarks/encoders.py --rounds 5 --output benchmarks/results/encoders-cpu.json

A random BERT of a known shape in float32; texts whose lengths are drawn from a log-normal
distribution, as sentences and paragraphs are mixed: vectors and labels of them (embed, classify),
and pairs of a short query with each (rerank). Each way computes all of them:

transformers  its own forward pass in the order of arrival, a fixed number of texts at once,
              padded to the longest, and what comes of it as its pipelines do
length        the engine: windows of like length within a budget of tokens
alone         transformers, one text at a time: no padding, and nothing shared
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from machine import describe_machine
from transformers import BertConfig, BertForSequenceClassification, BertModel

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.activation import Activation, activate
from miao_worker.engine.encoder.engine import EncoderEngine
from miao_worker.engine.encoder.loader import LoadedEncoder
from miao_worker.engine.encoder.runner import PaddedRunner
from miao_worker.engine.encoder.sentence_files import SentenceRecipe
from miao_worker.engine.encoder.types import (
    EncoderInput,
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
)

SHAPES = {  # hidden size, layers, heads, intermediate size
    "minilm": (384, 6, 12, 1536),
    "bert-base": (768, 12, 12, 3072),
}
LONGEST = 512
QUERY = 12  # tokens of a query to rerank by
VOCAB = 30522


class CountingRunner(PaddedRunner):
    """Counts what it computes, padding included."""

    num_padded = 0

    def run(self, inputs: Sequence[EncoderInput]) -> list[torch.Tensor]:
        self.num_padded += len(inputs) * max(len(each.token_ids) for each in inputs)
        return super().run(inputs)


def make_runner(shape: str, kind: str) -> CountingRunner:
    size, layers, heads, intermediate = SHAPES[shape]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        num_labels=1 if kind == "rerank" else 5,
    )
    embeds = kind == "embed"
    model = (
        BertModel(config, add_pooling_layer=False)
        if embeds
        else BertForSequenceClassification(config)
    ).eval()
    activation = {"embed": Activation.IDENTITY, "classify": Activation.SOFTMAX}
    return CountingRunner(
        LoadedEncoder(
            task=EncoderTask.EMBED if embeds else EncoderTask.CLASSIFY,
            model=model,
            recipe=SentenceRecipe(),
            layers=torch.nn.Sequential(),
            dimensions=size,
            activation=activation.get(kind, Activation.SIGMOID),
            labels=(),
            max_length=LONGEST,
            pad_token_id=0,
        )
    )


def draw_texts(kind: str, count: int, median: float, spread: float) -> list[EncoderInput]:
    draw = random.Random(0)
    texts = []
    for _ in range(count):
        length = int(draw.lognormvariate(0, spread) * median)
        ids = draw.choices(range(1000, VOCAB), k=min(LONGEST - QUERY, max(3, length)))
        if kind == "rerank":
            query = draw.choices(range(1000, VOCAB), k=QUERY)
            texts.append(EncoderInput((*query, *ids), (0,) * QUERY + (1,) * len(ids)))
        else:
            texts.append(EncoderInput(tuple(ids)))
    return texts


@torch.inference_mode()
def plainly(runner: CountingRunner, texts: list[EncoderInput], batch: int) -> list[torch.Tensor]:
    """As a program does that calls transformers."""
    model, found = runner.loaded.model, []
    for first in range(0, len(texts), batch):
        part = texts[first : first + batch]
        longest = max(len(text.token_ids) for text in part)
        runner.num_padded += longest * len(part)

        def padded(rows: list[Sequence[int]], longest: int = longest) -> torch.Tensor:
            return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])

        mask = padded([[1] * len(text.token_ids) for text in part])
        output = model(
            input_ids=padded([text.token_ids for text in part]),
            attention_mask=mask,
            token_type_ids=padded([text.type_ids for text in part]),
        )
        if runner.task is EncoderTask.EMBED:
            weights = mask[..., None].float()
            found += (output.last_hidden_state * weights).sum(1) / weights.sum(1)
        else:
            found += activate(output.logits, runner.loaded.activation)
    return found


def by_length(
    runner: CountingRunner, texts: list[EncoderInput], max_tokens: int
) -> list[torch.Tensor]:
    engine = EncoderEngine(EngineConfig("", max_batch_tokens=max_tokens), runner)
    for index, text in enumerate(texts):  # as from so many callers
        engine.add(EncodingRequest(str(index), runner.task, (text,), normalize=False))
    found: dict[int, torch.Tensor] = {}
    while engine.has_unfinished:
        for output in engine.step().outputs:
            assert isinstance(output, EncodingOutput), output
            row = torch.frombuffer(bytearray(output.rows[0]), dtype=torch.float32)
            found[int(output.sequence_id)] = row
    return [found[index] for index in range(len(texts))]


def measure(options: argparse.Namespace, kind: str) -> dict[str, object]:
    runner = make_runner(options.shape, kind)
    texts = draw_texts(kind, options.texts, options.median_tokens, options.spread)
    num_tokens = sum(len(text.token_ids) for text in texts)
    ways: dict[str, Callable[[], list[torch.Tensor]]] = {
        "transformers-32": lambda: plainly(runner, texts, 32),
        "length-2048": lambda: by_length(runner, texts, 2048),
        "length-512": lambda: by_length(runner, texts, 512),
        "alone": lambda: plainly(runner, texts, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    padded: dict[str, int] = {}
    for _ in range(options.rounds):
        answers = []
        for name, way in ways.items():
            runner.num_padded = 0
            start = time.perf_counter()
            answers.append(way())
            seconds[name].append(time.perf_counter() - start)
            padded[name] = runner.num_padded
        for answer in answers[1:]:
            torch.testing.assert_close(answer, answers[0], rtol=1e-3, atol=1e-4)
    base = statistics.median(seconds["transformers-32"])
    result = {
        name: {
            "texts_per_second": round(len(texts) / statistics.median(found)),
            "tokens_per_second": round(num_tokens / statistics.median(found)),
            "padding_share": round(1 - num_tokens / padded[name], 3),
            "times_as_fast_as_transformers": round(base / statistics.median(found), 2),
        }
        for name, found in seconds.items()
    }
    print(kind, json.dumps(result, indent=1), flush=True)
    return {"texts": len(texts), "tokens": num_tokens, "ways": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--kinds", nargs="+", default=["embed", "classify", "rerank"])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--median-tokens", type=float, default=32)
    parser.add_argument("--spread", type=float, default=1.0, help="sigma of the log-normal")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {key: value for key, value in vars(options).items() if key != "output"}
    result = {"machine": describe_machine(), "settings": settings}
    result |= {kind: measure(options, kind) for kind in options.kinds}
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
