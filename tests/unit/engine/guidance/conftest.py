"""A model that babbles, on a real byte-level vocabulary of 320 tokens."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from miao_worker.engine.batch import Batch
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceOutput, SequenceRequest

EOS = 0


def make_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>", "<|other|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = ['{"name": "value", "count": 12, "list": [true, false, null]}', "好的，明天的早晨"]
    tokenizer.train_from_iterator(text * 20, trainer)
    return tokenizer


TOKENIZER = make_tokenizer()
VOCAB = TOKENIZER.get_vocab_size() + 8  # padded, as models are


class BabblingRunner:
    """The engine's `ModelRunner`: logits are noise that follows from place and last token."""

    device = torch.device("cpu")
    dtype = torch.float32
    vocab_size = VOCAB
    num_blocks = 512
    max_model_length = 600

    def __init__(self) -> None:
        self._noise = torch.randn(997, VOCAB, generator=torch.Generator().manual_seed(3)) * 3
        self.num_steps = 0

    def run(self, batch: Batch) -> torch.Tensor:
        self.num_steps += 1
        before = batch.proposed_before or [()] * len(batch.sampled)
        carried = torch.zeros(len(batch.decodes), dtype=torch.int64)
        if batch.carried is not None:  # tokens that only the device knows yet
            batch.carried.fill_(carried)
        known = dict(zip(batch.decodes, carried.tolist(), strict=True))
        rows = []
        for sequence, proposed in zip(batch.sampled, before, strict=True):
            last = [*sequence.token_ids, *proposed][-1]
            if sequence.pending_row is not None:
                last = known[sequence]
            rows.append((31 * last + sequence.num_tokens + len(proposed)) % 997)
        return self._noise[rows]

    def erase(self, blocks: Any) -> None:
        """It keeps nothing."""


@pytest.fixture
def make_babbler() -> Callable[..., Engine]:
    def make(proposer: Any = None, clock: Any = time.perf_counter, **settings: Any) -> Engine:
        config = EngineConfig(model="babbler", **settings)
        engine = Engine(config, BabblingRunner(), proposer, clock)
        engine.follow_grammars(TOKENIZER.to_str(), [EOS])
        return engine

    return make


@pytest.fixture
def ask() -> Callable[..., SequenceRequest]:
    def make(grammar: str | None, sequence_id: str = "a", **changes: Any) -> SequenceRequest:
        output = changes.pop("output", ())
        wanted: dict[str, Any] = {"max_tokens": 400, "seed": 1, "temperature": 1.0}
        wanted["stop_token_ids"] = frozenset({EOS})
        params = SamplingParams(**(wanted | changes))
        return SequenceRequest(sequence_id, (5, 6, 7), params, output, grammar)

    return make


class Said:
    """What a sequence said, and how it ended."""

    def __init__(self, outputs: list[SequenceOutput]) -> None:
        self.token_ids = [t for output in outputs for t in output.token_ids]
        self.reason = outputs[-1].finish_reason
        self.error = outputs[-1].error
        self.logprobs = [lp for output in outputs for lp in output.logprobs or ()]

    @property
    def text(self) -> str:
        return str(TOKENIZER.decode(self.token_ids, skip_special_tokens=True))


@pytest.fixture
def say(drain: Callable[..., Any]) -> Callable[..., Said]:
    def run(engine: Engine, *requests: SequenceRequest) -> Any:
        for request in requests:
            engine.add(request)
        said = {name: Said(outputs) for name, outputs in drain(engine).items()}
        return said[requests[0].sequence_id] if len(requests) == 1 else said

    return run
