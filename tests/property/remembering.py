"""A model that remembers, requests of every kind, and how they are run to their end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st

from miao_worker.engine.batch import Batch
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest

VOCAB = 12
MAX_LENGTH = 28
NUM_BLOCKS = 16
BLOCK_SIZE = 2


class RememberingRunner:
    """A `ModelRunner` whose logits depend on every token that its blocks hold.

    So whatever stands in a wrong slot changes what comes out. `trust` mixes the
    table of another model in: how much this one is like it.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    vocab_size = VOCAB
    num_blocks = NUM_BLOCKS
    max_model_length = MAX_LENGTH

    def __init__(self, trust: float = 1.0) -> None:
        self._tables = [_table(0), _table(1)]
        self._trust = trust
        self._slots: dict[tuple[int, int], tuple[int, int]] = {}

    def run(self, batch: Batch) -> torch.Tensor:
        rows = []  # (sequence, position) of each with logits
        token_ids = torch.tensor([sequence.token_ids[-1] for sequence in batch.decodes])
        if batch.carried is not None:
            batch.carried.fill_(token_ids)
        last = token_ids.tolist()
        for sequence, proposal in zip(
            batch.decodes, batch.proposals or [()] * len(batch.decodes), strict=True
        ):
            begin = sequence.num_tokens - 1
            self._write(sequence, begin, [last.pop(0), *proposal])
            rows += [(sequence, begin + i) for i in range(1 + len(proposal))]
        for prefill in batch.prefills:
            tokens = prefill.sequence.token_ids[prefill.start : prefill.end]
            self._write(prefill.sequence, prefill.start, tokens)
            rows += [(prefill.sequence, prefill.end - 1)] * prefill.is_last
        assert [sequence for sequence, _ in rows] == batch.sampled
        return torch.stack([self._logits(*row) for row in rows]) if rows else torch.zeros(0, VOCAB)

    def erase(self, blocks: Sequence[int]) -> None:
        raise AssertionError("nothing here is not finite")

    def _write(self, sequence: Any, start: int, token_ids: Sequence[int]) -> None:
        for position, token_id in enumerate(token_ids, start):
            self._slots[self._slot(sequence, position)] = (position, token_id)

    def _slot(self, sequence: Any, position: int) -> tuple[int, int]:
        return sequence.block_table[position // BLOCK_SIZE], position % BLOCK_SIZE

    def _logits(self, sequence: Any, position: int) -> torch.Tensor:
        key = 0
        for p in range(position + 1):
            held_position, token_id = self._slots[self._slot(sequence, p)]
            key = (key * 31 + token_id + 1 + 7 * (held_position - p)) % len(self._tables[0])
        own, other = self._tables[0][key], self._tables[1][key]
        return self._trust * own + (1 - self._trust) * other


def _table(seed: int) -> torch.Tensor:
    """Logits for what a few hundred histories lead to: some are met again."""
    return 3 * torch.randn(211, VOCAB, generator=torch.Generator().manual_seed(seed))


sampling = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 16),
    seed=st.integers(0, 99),
    temperature=st.sampled_from([0.0, 0.0, 0.6, 1.2]),
    top_p=st.sampled_from([1.0, 0.8]),
    top_k=st.sampled_from([0, 3]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.7]),
    logit_bias=st.sampled_from([(), ((3, 2.0), (5, -4.0))]),
    stop_token_ids=st.sampled_from([frozenset(), frozenset({1, 2})]),
    num_logprobs=st.sampled_from([None, 2]),
).flatmap(lambda p: st.builds(replace, st.just(p), min_tokens=st.integers(0, p.max_tokens)))
tokens = st.lists(st.integers(0, 3), min_size=1, max_size=14).map(tuple)
request_kinds = st.tuples(tokens, sampling, st.lists(st.integers(0, 3), max_size=4).map(tuple))


def requests_of(kinds: list[Any], tenants: str = "") -> list[SequenceRequest]:
    """tenants: a letter for each request; none: all are of one."""
    requests = []
    for number, (prompt, params, output) in enumerate(kinds):
        resumed = output if len(output) < params.max_tokens else ()
        tenant = tenants[number : number + 1]
        requests.append(SequenceRequest(str(number), prompt, params, resumed, tenant=tenant))
    return requests


def run(engine: Engine, requests: list[SequenceRequest], arrivals: list[int]) -> dict[str, Any]:
    """Add requests as the steps go by; what each said, with logprobs and reason."""
    said: dict[str, Any] = {}
    left = list(zip(requests, arrivals, strict=True))
    for step in range(2000):
        for request, _ in [pair for pair in left if pair[1] <= step]:
            engine.add(request)
        left = [pair for pair in left if pair[1] > step]
        if not left and not engine.has_unfinished:
            return said
        for output in engine.step().outputs:
            before = said.get(output.sequence_id, ((), (), None))
            logprobs = tuple(
                (round(lp.logprob, 4), [(t, round(v, 4)) for t, v in lp.top])
                for lp in output.logprobs or ()
            )
            assert before[2] is None, "nothing comes after the end"
            said[output.sequence_id] = (
                before[0] + output.token_ids,
                before[1] + logprobs,
                output.finish_reason,
            )
    raise AssertionError("the engine does not come to an end")
