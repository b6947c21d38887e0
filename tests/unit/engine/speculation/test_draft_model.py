"""The draft model's own keys and values follow each sequence, whatever becomes of it."""

from __future__ import annotations

import pytest
import torch

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.speculation.draft_model import DraftModel

VOCAB = 64


@pytest.fixture
def make(make_engine):
    """An engine and its draft model, both on runners that check what their blocks hold."""

    def make_one(wrong=(), draft_blocks=32, draft_length=60, **settings):
        _, draft_runner = make_engine(num_blocks=draft_blocks, max_model_length=draft_length)
        _count_wrongly(draft_runner, wrong)
        names = ("max_batch_tokens", "max_sequences", "prefix_cache")
        shared = {name: settings[name] for name in names if name in settings}
        config = EngineConfig("draft", block_size=4, **shared)
        draft = DraftModel(draft_runner, config, VOCAB)
        engine, _ = make_engine(proposer=draft, clock=lambda: 0.0, **settings)
        return engine, draft, draft_runner

    return make_one


def _count_wrongly(runner, wrong):
    """After the tokens in `wrong` the runner says another token than the one that follows."""
    plain = runner.run

    def run(batch):
        logits = plain(batch)
        for row, sequence in enumerate(batch.sampled):
            if sequence.token_ids[-1] in wrong:
                logits[row] = logits[row].roll(7)
        return logits

    runner.run = run


def tokens(outputs):
    return [token for output in outputs for token in output.token_ids]


def test_it_drafts_what_the_model_says(make, make_request, drain):
    engine, _, _ = make()
    engine.add(make_request("a", max_tokens=18))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == list(range(4, 22))
    assert [len(o.token_ids) for o in outputs] == [1, 1, 1, 1, 5, 5, 4]


def test_its_cache_is_right_after_wrong_proposals(make, make_request, drain):
    engine, _, runner = make(wrong={6, 9, 13, 14, 20, 21, 22, 30})
    for name in "abc":
        engine.add(make_request(name, prompt=(1, ord(name) % 3, 3), max_tokens=40))
    outputs = drain(engine)
    assert all(tokens(outputs[name]) == list(range(4, 44)) for name in "abc")
    stats = engine.step().stats
    assert 0 < stats.num_accepted_tokens < stats.num_proposed_tokens
    assert len(runner.batches) > 10


def test_its_blocks_and_rows_come_back(make, make_request, drain):
    engine, draft, runner = make(wrong={9}, max_sequences=3)
    for i in range(10):
        engine.add(make_request(str(i), prompt=(i, 2, 3), max_tokens=12))
    engine.step()
    engine.cancel("1")
    drain(engine)
    draft.propose([], [])
    assert draft.num_free_blocks == runner.num_blocks
    assert len(draft._free_rows) == 3


def test_it_reuses_prefixes(make, make_request, drain):
    engine, _, runner = make()
    for name in "ab":
        engine.add(make_request(name, prompt=range(20), max_tokens=8))
        drain(engine)
    prefilled = [num_tokens for _, num_tokens in runner.batches if num_tokens > 5]
    assert prefilled == [24]  # what the first left is there for the second


def test_it_catches_up_in_chunks_and_proposes_when_it_has(make, make_request, drain):
    engine, _, runner = make(max_batch_tokens=9)
    engine.add(make_request("a", prompt=range(30), max_tokens=20))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == list(range(30, 50))
    assert max(num_tokens for _, num_tokens in runner.batches) == 9
    assert any(len(output.token_ids) > 1 for output in outputs)


def test_what_it_has_no_room_for_goes_on_without_it(make, make_request, drain):
    engine, _, _ = make(draft_blocks=3)
    for name, start in (("a", 1), ("b", 21)):
        engine.add(make_request(name, prompt=range(start, start + 9), max_tokens=20))
    outputs = drain(engine)
    assert tokens(outputs["a"]) == list(range(10, 30))
    assert tokens(outputs["b"]) == list(range(30, 50))
    assert engine.step().stats.num_accepted_tokens < 8


def test_a_sequence_longer_than_its_context_goes_on_without_it(make, make_request, drain):
    engine, _, runner = make(draft_length=16)
    engine.add(make_request("a", max_tokens=40))
    assert tokens(drain(engine)["a"]) == list(range(4, 44))
    assert len(runner.batches) < 12


def test_preempted_sequences_give_their_blocks_back(make, make_request, drain):
    engine, _, _ = make(num_blocks=8, max_model_length=30, draft_blocks=8)
    for start in (1, 11, 21):
        engine.add(make_request(str(start), prompt=range(start, start + 5), max_tokens=12))
    outputs = drain(engine)
    for start in (1, 11, 21):
        assert tokens(outputs[str(start)]) == [*range(start + 5, start + 17)]
    assert engine.step().stats.num_preemptions > 0
    assert engine.step().stats.num_accepted_tokens > 0


def test_output_that_is_not_finite_ends_its_proposals_alone(make, make_request, drain):
    engine, _, runner = make()
    runner.poison = 9
    engine.add(make_request("ill", max_tokens=20))
    engine.add(make_request("a", prompt=(20, 21), max_tokens=20))
    outputs = drain(engine)
    assert tokens(outputs["ill"]) == list(range(4, 24))
    assert tokens(outputs["a"]) == list(range(22, 42))
    assert len(outputs["a"]) < 9 < len(outputs["ill"])
    assert runner.erased


def test_tokens_that_it_does_not_know_are_no_harm(make, make_request, drain):
    engine, _, runner = make()
    runner.vocab_size = 12
    fit = runner.run
    runner.run = lambda batch: fit(batch)[:, :12]
    engine.add(make_request("a", max_tokens=20))
    assert tokens(drain(engine)["a"]) == list(range(4, 24))
    assert engine.step().stats.num_accepted_tokens > 0


def test_sampled_drafts_use_the_sequences_own_random_numbers(make_engine, make_request, drain):
    """Where both models have the same distribution they draw the same token."""

    def flat(runner):
        plain = runner.run
        runner.run = lambda batch: torch.cos(plain(batch)) * torch.arange(VOCAB).sin() * 3
        return runner

    _, draft_runner = make_engine()
    draft = DraftModel(flat(draft_runner), EngineConfig("draft", block_size=4), VOCAB)
    engine, runner = make_engine(proposer=draft, clock=lambda: 0.0)
    flat(runner)
    engine.add(make_request("a", max_tokens=40, temperature=1.0, seed=5))
    assert len(set(tokens(drain(engine)["a"]))) > 10
    stats = engine.step().stats
    assert stats.num_accepted_tokens == stats.num_proposed_tokens > 20
