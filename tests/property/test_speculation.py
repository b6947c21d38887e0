"""Speculation of any kind, under any load: the output is that of plain decoding, to the token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.remembering import (
    BLOCK_SIZE,
    NUM_BLOCKS,
    VOCAB,
    RememberingRunner,
    request_kinds,
    requests_of,
    run,
)

from miao_worker.engine.batch import Proposal
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.speculation.draft_model import DraftModel
from miao_worker.engine.speculation.prompt_lookup import PromptLookup
from miao_worker.engine.types import SamplingParams, SequenceRequest


class Guesser:
    """Guesses by a table of its own, so that any part of a proposal may be right."""

    usual_length = 5

    def propose(self, sequences: Sequence[Any], lengths: Sequence[int]) -> list[Proposal]:
        return [
            tuple((q.token_ids[-1] * 5 + q.num_tokens + i) % VOCAB for i in range(n))
            for q, n in zip(sequences, lengths, strict=True)
        ]


def make_proposer(name: str, config: EngineConfig) -> Any:
    match name:
        case "guess":
            return Guesser()
        case "lookup":
            return PromptLookup()
        case "draft of its own kind":
            return DraftModel(RememberingRunner(), config, VOCAB)
        case _:
            return DraftModel(RememberingRunner(trust=0.8), config, VOCAB)


PROPOSERS = ["guess", "lookup", "draft of its own kind", "draft of another kind"]


@pytest.mark.parametrize("name", PROPOSERS)
@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(request_kinds, min_size=1, max_size=5),
    arrivals=st.lists(st.integers(0, 12), min_size=5, max_size=5),
    max_batch_tokens=st.sampled_from([3, 8, 64]),
    prefix_cache=st.booleans(),
    num_speculative_tokens=st.sampled_from([None, 1, 3]),
)
def test_the_output_is_that_of_plain_decoding(
    name, kinds, arrivals, max_batch_tokens, prefix_cache, num_speculative_tokens
):
    requests = requests_of(kinds)
    config = EngineConfig(
        "remembering",
        block_size=BLOCK_SIZE,
        max_sequences=4,
        max_batch_tokens=max_batch_tokens,
        prefix_cache=prefix_cache,
        num_speculative_tokens=num_speculative_tokens,
    )
    times = arrivals[: len(requests)]
    plain = run(Engine(config, RememberingRunner()), requests, times)
    proposer = make_proposer(name, config)
    engine = Engine(config, RememberingRunner(), proposer, clock=lambda: 0.0)
    assert run(engine, requests, times) == plain
    assert engine.step().stats.num_free_blocks == NUM_BLOCKS


@pytest.mark.parametrize("name", PROPOSERS)
def test_the_test_above_sees_proposals_of_every_fate(name):
    """A property that speculation never meets would hold for nothing."""
    config = EngineConfig("remembering", block_size=BLOCK_SIZE, max_sequences=4)
    proposer = make_proposer(name, config)
    engine = Engine(config, RememberingRunner(), proposer, clock=lambda: 0.0)
    requests = [
        SequenceRequest(str(i), (i % 4,) * 3, SamplingParams(20, seed=i, temperature=0.4 * (i % 2)))
        for i in range(16)
    ]
    run(engine, requests, [0] * 16)
    stats = engine.step().stats
    assert stats.num_preemptions > 0
    assert stats.num_accepted_tokens > 0
    if name == "draft of its own kind":
        assert stats.num_accepted_tokens > 0.9 * stats.num_proposed_tokens
    else:
        assert stats.num_accepted_tokens < stats.num_proposed_tokens
