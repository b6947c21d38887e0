"""The engine with proposals, on the model that counts."""

from __future__ import annotations

import pytest

from miao_worker.engine.types import FinishReason

VOCAB = 64


class Counter:
    """Proposes to go on counting; what it says of the tokens in `wrong` is wrong."""

    usual_length = 4

    def __init__(self, wrong=()):
        self.wrong = set(wrong)
        self.asked = []

    def propose(self, sequences, lengths):
        self.asked.append(list(lengths))
        return [
            tuple(self._say(q.token_ids[-1] + 1 + i) for i in range(n))
            for q, n in zip(sequences, lengths, strict=True)
        ]

    def _say(self, token_id):
        return (token_id + (9 if token_id in self.wrong else 0)) % VOCAB


class Clock:
    """Time that a step takes: so much for itself, and so much for each proposed token."""

    def __init__(self, seconds_per_token):
        self.runner = None  # whose steps it counts
        self._seconds_per_token = seconds_per_token

    def __call__(self):
        num_proposed = sum(self.runner.num_proposed)
        return len(self.runner.batches) + num_proposed * self._seconds_per_token


@pytest.fixture
def make(make_engine):
    """An engine for which speculation is free, with the proposals of a `Counter`."""

    def make_one(wrong=(), **settings):
        proposer = Counter(wrong)
        settings = {"proposer": proposer, "clock": lambda: 0.0, **settings}
        engine, runner = make_engine(**settings)
        return engine, runner, proposer

    return make_one


def tokens(outputs):
    return [token for output in outputs for token in output.token_ids]


def sizes(outputs):
    return [len(output.token_ids) for output in outputs]


def test_accepted_tokens_come_in_one_step(make, make_request, drain):
    engine, _, _ = make()
    engine.add(make_request("a", max_tokens=14))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == list(range(4, 18))
    assert sizes(outputs) == [1, 1, 1, 1, 5, 5]  # the prompt, three plain steps, proposals of four
    stats = engine.step().stats
    assert (stats.num_proposed_tokens, stats.num_accepted_tokens) == (8, 8)


def test_what_comes_after_a_wrong_guess_is_dropped(make, make_request, drain):
    engine, _, _ = make(wrong={9})
    engine.add(make_request("a", max_tokens=12))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == list(range(4, 16))
    assert sizes(outputs)[4] == 2  # 8, and 9 as the model has it
    stats = engine.step().stats
    assert stats.num_accepted_tokens < stats.num_proposed_tokens
    assert stats.num_free_blocks == engine.num_blocks


def test_nothing_is_proposed_past_max_tokens(make, make_request, drain):
    engine, _, proposer = make()
    engine.add(make_request("a", max_tokens=7))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == list(range(4, 11))
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert proposer.asked == [[2]]


def test_nothing_is_proposed_past_the_context(make, make_request, drain):
    engine, _, proposer = make(max_model_length=10)
    engine.add(make_request("a", max_tokens=50))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == list(range(4, 11))
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert proposer.asked == [[2]]


def test_a_stop_token_amid_a_proposal_ends_the_sequence_there(make, make_request, drain):
    engine, _, _ = make()
    engine.add(make_request("a", max_tokens=30, stop_token_ids=frozenset({10})))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == [4, 5, 6, 7, 8, 9, 10]
    assert outputs[-1].finish_reason is FinishReason.STOP
    assert engine.step().stats.num_free_blocks == engine.num_blocks


def test_logprobs_come_one_for_each_token(make, make_request, drain):
    engine, _, _ = make(wrong={12})
    engine.add(make_request("a", max_tokens=12, num_logprobs=1))
    for output in drain(engine)["a"]:
        assert [lp.top[0][0] for lp in output.logprobs] == list(output.token_ids)


def test_a_sequence_that_fails_amid_a_proposal_says_what_it_had(make, make_request, drain):
    engine, runner, _ = make()
    runner.poison = 9
    engine.add(make_request("ill", max_tokens=30))
    engine.add(make_request("a", prompt=(20, 21), max_tokens=12))
    outputs = drain(engine)
    assert tokens(outputs["ill"]) == [4, 5, 6, 7, 8, 9]
    assert outputs["ill"][-1].finish_reason is FinishReason.ERROR
    assert "not finite" in outputs["ill"][-1].error
    assert tokens(outputs["a"]) == list(range(22, 34))
    assert set(runner.erased)
    assert engine.step().stats.num_free_blocks == engine.num_blocks


@pytest.mark.parametrize("stop", [frozenset(), frozenset({8})])
def test_a_refused_token_that_is_not_finite_harms_nobody(make, make_request, drain, stop):
    """Its keys and values would meet the sequence's later queries, masked or not."""
    engine, runner, proposer = make(wrong={9})
    runner.poison = 18  # what is wrongly proposed for 9
    engine.add(make_request("a", max_tokens=14, stop_token_ids=stop))
    for _ in range(5):
        engine.step()
    assert runner.erased
    erased_slots = {slot for slot in runner._slots if slot[0] in runner.erased}
    assert erased_slots
    rest = drain(engine).get("a", [])
    if stop:
        assert not rest
    else:
        proposer.wrong.clear()
        assert tokens(rest)[-1] == 17
    assert engine.step().stats.num_free_blocks == engine.num_blocks


def test_refused_tokens_are_never_in_the_prefix_cache(make, make_request, drain):
    engine, _, _ = make(wrong=range(8, 64))
    engine.add(make_request("a", max_tokens=20))
    drain(engine)
    guess = [1, 2, 3, 4, 5, 6, 7, 17, 18, 19, 20, 21, 22]
    engine.add(make_request("b", prompt=guess, max_tokens=1))
    assert drain(engine)["b"][0].num_cached_tokens == 4


def test_accepted_tokens_are_shared_as_others_are(make, make_request, drain):
    engine, _, _ = make()
    engine.add(make_request("a", max_tokens=14))
    drain(engine)
    engine.add(make_request("b", prompt=range(1, 18), max_tokens=1))
    assert drain(engine)["b"][0].num_cached_tokens == 16


def test_proposals_take_what_prompts_leave_of_a_step(make, make_request):
    engine, runner, _ = make(max_batch_tokens=8)
    engine.add(make_request("a", max_tokens=30))
    for _ in range(4):
        engine.step()
    engine.add(make_request("b", prompt=range(20), max_tokens=1))
    for _ in range(3):
        engine.step()
    assert runner.batches[-3:] == [(1, 7), (1, 7), (1, 6)]
    assert runner.num_proposed[-3:] == [0, 0, 1]


def test_a_batch_without_proposals_is_a_plain_one(make_engine, make_request, drain):
    class Silent(Counter):
        def propose(self, sequences, lengths):
            return [()] * len(sequences)

    engine, runner = make_engine(proposer=Silent(), clock=lambda: 0.0)
    engine.add(make_request("a", max_tokens=12))
    assert sizes(drain(engine)["a"]) == [1] * 12
    assert runner.num_proposed == [0] * 12


@pytest.mark.parametrize(("seconds_per_token", "least", "most"), [(0.1, 300, 999), (2.0, 0, 120)])
def test_it_goes_on_where_it_pays_and_ends_where_it_costs(
    make_engine, make_request, seconds_per_token, least, most
):
    clock = Clock(seconds_per_token)
    engine, runner = make_engine(
        proposer=Counter(), clock=clock, num_blocks=200, max_model_length=700
    )
    clock.runner = runner
    engine.add(make_request("a", max_tokens=500))
    said = []
    while engine.has_unfinished:
        said += engine.step().outputs
    assert [t for o in said for t in o.token_ids] == [(4 + i) % VOCAB for i in range(500)]
    assert least <= sum(runner.num_proposed) <= most


def test_a_sequence_whose_proposals_are_refused_is_left_alone(make, make_request, drain):
    engine, runner, _ = make(wrong=range(30), num_blocks=64, max_model_length=200)
    engine.add(make_request("good", prompt=(30, 31, 32), max_tokens=24))
    engine.add(make_request("bad", max_tokens=24))
    outputs = drain(engine)
    assert tokens(outputs["good"]) == list(range(33, 57))
    assert tokens(outputs["bad"]) == list(range(4, 28))
    assert len(outputs["good"]) < 10
    assert sum(runner.num_proposed[-8:]) < 8


def test_settings_that_make_no_sense_are_refused(make_engine):
    from miao_worker.engine.config import EngineConfig
    from miao_worker.engine.engine import Engine
    from miao_worker.engine.errors import ModelLoadError

    for settings, word in (
        ({"speculation": "medusa"}, "off, ngram, draft"),
        ({"speculation": "draft"}, "draft_model"),
        ({"speculation": "ngram", "draft_model": "x"}, "draft_model"),
        ({"speculation": "ngram", "num_speculative_tokens": 0}, "between 1 and 32"),
        ({"speculation": "ngram", "num_speculative_tokens": 33}, "between 1 and 32"),
        ({"num_speculative_tokens": 3}, "off"),
    ):
        with pytest.raises(ModelLoadError, match=word):
            Engine(EngineConfig(model="nowhere", **settings))
