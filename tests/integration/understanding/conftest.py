"""Small random encoders with their tokenizers, and workers that serve them beside a front."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
)

from miao_client import Client
from miao_worker import cli
from miao_worker.stack import Stack, StackSettings
from tests.conftest import RedisServer
from tests.forked_worker import ForkedWorker, ForkingStack, Main

TEXT = ["the quick brown fox jumps over the lazy dog", "a query asks , a document answers ."]
OPTIONS = ["--num-threads", "1", "--device", "cpu", "--dtype", "float32"]


def tokenizer() -> BertTokenizer:
    """A WordPiece of 120 tokens with BERT's special ones."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    made.train_from_iterator(TEXT * 5, trainer)
    return BertTokenizer(vocab=made.get_vocab())


def bert(**changes: Any) -> BertConfig:
    values: dict[str, Any] = {
        "vocab_size": len(tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    return BertConfig(**(values | changes))


@pytest.fixture(scope="session")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mean pooling, a layer from 32 to 8 with Tanh, length 1; prompts; 48 tokens."""
    folder = tmp_path_factory.mktemp("models") / "tiny-sentence"
    torch.manual_seed(5)
    BertModel(bert()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    kinds.append(("Normalize", "3_Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    files: dict[str, Any] = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 8,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query : "}},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    layer = nn.Linear(32, 8)
    save_file(
        {f"linear.{k}": v for k, v in layer.state_dict().items()},
        folder / "2_Dense/model.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-cross"
    torch.manual_seed(6)
    config = bert(id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


class Worker:
    """One more worker."""

    def __init__(
        self, redis_url: str, model: Path, log: Path, *options: str, main: Main = cli.main
    ) -> None:
        self._log = log
        arguments = ["--redis-url", redis_url, "--model", str(model), *OPTIONS, *options]
        self.process = ForkedWorker(arguments, log, main)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while "worker serving" not in self._log.read_text():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def stack(
    redis_server: RedisServer,
    sentence_model: Path,
    cross_encoder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """A front, a worker that embeds, and one that reranks."""
    with Redis.from_url(redis_server.url) as redis:
        redis.flushall()
    log = tmp_path_factory.mktemp("logs") / "cross.log"
    other = Worker(redis_server.url, cross_encoder, log)
    options = ["--model", str(sentence_model), *OPTIONS]
    stack = ForkingStack(StackSettings("127.0.0.1:0", options, redis_server.url), lambda *_: None)
    try:
        stack.start()
        other.wait_ready()
        yield stack
    finally:
        stack.stop()
        other.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.address) as client:
        yield client


@pytest.fixture
def start_worker(
    stack: Stack, sentence_model: Path, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(*options: str, **changes: Any) -> Worker:
        log = tmp_path / f"{len(workers)}.log"
        workers.append(Worker(stack.redis_url, sentence_model, log, *options, **changes))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill_group()
