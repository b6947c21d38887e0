"""A model that counts: after token t comes t + 1. It checks what it is asked to compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from miao_worker.engine.batch import Batch
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.speculation.proposer import Proposer
from miao_worker.engine.types import SamplingParams, SequenceOutput, SequenceRequest

VOCAB = 64


@pytest.fixture(autouse=True, scope="session")
def single_thread() -> None:
    """The tensors are too small for more."""
    torch.set_num_threads(1)


class CountingRunner:
    """The engine's `ModelRunner` without a model.

    Remembers which (block, offset) holds which token, as a KV pool would, and
    fails where a sequence's blocks do not hold its own tokens.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, num_blocks: int, block_size: int, max_model_length: int) -> None:
        self.vocab_size = VOCAB
        self.num_blocks = num_blocks
        self.max_model_length = max_model_length
        self.block_size = block_size
        self.batches: list[tuple[int, int]] = []  # (decodes, prefilled tokens)
        self.num_proposed: list[int] = []  # tokens, in each step
        self.poison: int | None = None  # the token after which the logits are not finite
        self.erased: list[int] = []
        self._slots: dict[tuple[int, int], tuple[int, int]] = {}
        self._carried: dict[Any, int] = {}  # last tokens of this step, from the one before

    def run(self, batch: Batch) -> torch.Tensor:
        num_proposed = sum(map(len, batch.proposals))
        self.batches.append((len(batch.decodes), sum(p.num_tokens for p in batch.prefills)))
        self.num_proposed.append(num_proposed)
        self._resolve(batch)
        proposals = batch.proposals or [()] * len(batch.decodes)
        for sequence, proposal in zip(batch.decodes, proposals, strict=True):
            begin = sequence.num_tokens - 1
            self._write(sequence, begin, [self._tokens(sequence)[-1], *proposal])
        for prefill in batch.prefills:
            tokens = prefill.sequence.token_ids[prefill.start : prefill.end]
            self._write(prefill.sequence, prefill.start, tokens)
        for sequence in batch.decodes:
            self._check(sequence, sequence.num_tokens)
        for prefill in batch.prefills:
            self._check(prefill.sequence, prefill.end)
        before = batch.proposed_before or [()] * len(batch.sampled)
        logits = torch.zeros(len(batch.sampled), VOCAB)
        for row, (sequence, proposed) in enumerate(zip(batch.sampled, before, strict=True)):
            last = [*self._tokens(sequence), *proposed][-1]
            logits[row, (last + 1) % VOCAB] = 20.0
            if last == self.poison:
                logits[row] = torch.nan
        return logits

    def erase(self, blocks: Sequence[int]) -> None:
        self.erased.extend(blocks)

    def _slot(self, sequence: Any, position: int) -> tuple[int, int]:
        return sequence.block_table[position // self.block_size], position % self.block_size

    def _write(self, sequence: Any, start: int, token_ids: Sequence[int]) -> None:
        for position, token_id in enumerate(token_ids, start):
            self._slots[self._slot(sequence, position)] = (position, token_id)

    def _check(self, sequence: Any, end: int) -> None:
        for position in range(end):
            slot = self._slots[self._slot(sequence, position)]
            assert slot == (position, self._tokens(sequence)[position]), "another sequence's block"

    def _resolve(self, batch: Batch) -> None:
        """What the device knows of tokens that the host does not know yet."""
        self._carried = {}
        pending = [sequence for sequence in batch.decodes if sequence.pending_row is not None]
        assert bool(pending) == (batch.carried is not None)
        if batch.carried is not None:
            token_ids = torch.full((len(batch.decodes),), -1)
            batch.carried.fill_(token_ids)
            self._carried = {
                sequence: token_id
                for sequence, token_id in zip(batch.decodes, token_ids.tolist(), strict=True)
                if token_id >= 0
            }
        assert list(self._carried) == pending

    def _tokens(self, sequence: Any) -> list[int]:
        if sequence not in self._carried:
            return sequence.token_ids
        return [*sequence.token_ids[:-1], self._carried[sequence]]


@pytest.fixture
def make_engine() -> Callable[..., tuple[Engine, CountingRunner]]:
    def make(
        num_blocks: int = 32,
        block_size: int = 4,
        max_model_length: int = 60,
        proposer: Proposer | None = None,
        clock: Callable[[], float] = time.perf_counter,
        **settings: Any,
    ) -> tuple[Engine, CountingRunner]:
        runner = CountingRunner(num_blocks, block_size, max_model_length)
        config = EngineConfig(model="counting", block_size=block_size, **settings)
        return Engine(config, runner, proposer, clock), runner

    return make


@pytest.fixture
def make_request() -> Callable[..., SequenceRequest]:
    def make(
        sequence_id: str,
        prompt: Sequence[int] = (1, 2, 3),
        output: Sequence[int] = (),
        **sampling: Any,
    ) -> SequenceRequest:
        wanted = {"max_tokens": 5, "seed": 0, "temperature": 0.0, **sampling}
        return SequenceRequest(sequence_id, tuple(prompt), SamplingParams(**wanted), tuple(output))

    return make


@pytest.fixture
def drain() -> Callable[[Engine], dict[str, list[SequenceOutput]]]:
    """Step to the end; every sequence's outputs."""

    def run(engine: Engine) -> dict[str, list[SequenceOutput]]:
        outputs: dict[str, list[SequenceOutput]] = {}
        for _ in range(1000):
            if not engine.has_unfinished:
                return outputs
            for output in engine.step().outputs:
                outputs.setdefault(output.sequence_id, []).append(output)
        raise AssertionError("the engine does not come to an end")

    return run
