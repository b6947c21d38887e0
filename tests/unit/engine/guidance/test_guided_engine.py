"""The engine with grammars, on a model that babbles."""

from __future__ import annotations

import json
import re

import pytest
import torch

from miao_worker.engine.guidance.vocabulary import VocabularyError
from miao_worker.engine.types import FinishReason

from .conftest import EOS, TOKENIZER, BabblingRunner

NAME = r"start: /[A-Z][a-z]{2,12}/"
YES_NO = 'start: "yes" | "no" | "no, never"'
NESTED = 'start: "(" start* ")" | "x"'
SCHEMA = (
    'start: %json {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},'
    ' "counts": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}},'
    ' "required": ["name", "counts"], "additionalProperties": false}'
)


class Oracle:
    """Proposes what was said before, but for each seventh token."""

    usual_length = 6

    def __init__(self, said):
        self._said = said

    def propose(self, sequences, lengths):
        proposals = []
        for sequence, length in zip(sequences, lengths, strict=True):
            begin = sequence.num_output_tokens
            right = self._said[sequence.sequence_id].token_ids[begin : begin + length]
            proposals.append(tuple(t if (begin + i) % 7 else 9 for i, t in enumerate(right)))
        return proposals


@pytest.mark.parametrize("seed", range(4))
def test_output_follows_its_grammar(make_babbler, ask, say, seed):
    said = say(
        make_babbler(),
        ask(NAME, "name", seed=seed),
        ask(YES_NO, "choice", seed=seed),
        ask(SCHEMA, "json", seed=seed, temperature=0.7, top_p=0.9),
        ask(None, "free", seed=seed, max_tokens=30),
    )
    assert re.fullmatch("[A-Z][a-z]{2,12}", said["name"].text)
    assert said["choice"].text in ("yes", "no", "no, never")
    assert set(json.loads(said["json"].text)) == {"name", "counts"}
    assert said["name"].reason is said["choice"].reason is said["json"].reason is FinishReason.STOP
    assert said["free"].reason is not FinishReason.ERROR


def test_what_must_not_be_said_is_left_out_of_what_the_grammar_allows(make_babbler, ask, say):
    banned = ((TOKENIZER.token_to_id("y"),),)
    for seed in range(6):
        said = say(make_babbler(), ask(YES_NO, seed=seed, bad_token_ids=banned))
        assert said.text in ("no", "no, never")


def test_a_grammar_that_forces_what_must_not_be_said_is_an_error_of_its_own(make_babbler, ask, say):
    banned = tuple((TOKENIZER.token_to_id(text),) for text in "x")
    said = say(make_babbler(), ask('start: "x"', bad_token_ids=banned))
    assert said.reason is FinishReason.ERROR
    assert said.error == "all that the grammar allows next must not be said"


def test_neighbours_with_grammars_change_nothing(make_babbler, ask, say):
    alone = say(make_babbler(), ask(None, "free", max_tokens=40, stop_token_ids=frozenset()))
    others = [ask(SCHEMA, f"json{i}", seed=i) for i in range(3)]
    free = ask(None, "free", max_tokens=40, stop_token_ids=frozenset())
    assert say(make_babbler(), free, *others)["free"].token_ids == alone.token_ids


def test_it_ends_at_once_where_nothing_more_is_allowed(make_babbler, ask, say):
    said = say(make_babbler(), ask('start: "ok"'))
    assert said.text == "ok"
    assert EOS not in said.token_ids
    assert said.reason is FinishReason.STOP


@pytest.mark.parametrize("grammar", [NAME, YES_NO, NESTED, SCHEMA])
def test_speculation_changes_nothing(make_babbler, ask, say, grammar):
    plan = [ask(grammar, f"s{i}", seed=i, max_tokens=60) for i in range(5)]
    plan.append(ask(None, "free", max_tokens=40, stop_token_ids=frozenset()))
    plain = say(make_babbler(), *plan)
    engine = make_babbler(Oracle(plain), clock=lambda: 0.0)
    fast = say(engine, *plan)
    for name, said in plain.items():
        assert fast[name].token_ids == said.token_ids
        assert fast[name].reason is said.reason
    if grammar != YES_NO:
        assert engine.step().stats.num_accepted_tokens


@pytest.mark.parametrize("grammar", [NAME, YES_NO, SCHEMA])
def test_it_goes_on_from_any_token_as_it_would_have(make_babbler, ask, say, grammar):
    whole = say(make_babbler(), ask(grammar))
    for cut in range(len(whole.token_ids) + 1):
        rest = say(make_babbler(), ask(grammar, output=tuple(whole.token_ids[:cut])))
        assert whole.token_ids[cut:] == rest.token_ids
        assert rest.reason is FinishReason.STOP


def test_an_end_of_sequence_comes_only_where_the_grammar_may_end(make_babbler, ask, say):
    for seed in range(8):
        said = say(make_babbler(), ask("start: /[a-z]{4,}/", seed=seed, logit_bias=((EOS, 100.0),)))
        assert said.token_ids[-1] == EOS
        assert len(said.text) >= 4


def test_ignored_ends_are_not_said_while_more_is_allowed(make_babbler, ask, say):
    bias = {"logit_bias": ((EOS, 100.0),), "stop_token_ids": frozenset()}
    said = say(make_babbler(), ask("start: /[a-z]{2,5}/", **bias))
    assert len(said.text) == 5
    assert EOS not in said.token_ids
    assert said.reason is FinishReason.STOP


def test_min_tokens_holds_the_end_back_while_more_is_allowed(make_babbler, ask, say):
    bias = {"logit_bias": ((EOS, 100.0),)}
    long = say(make_babbler(), ask("start: /[a-z]*/", min_tokens=6, **bias))
    assert len(long.token_ids) == 7
    short = say(make_babbler(), ask('start: "ok"', min_tokens=9, **bias))
    assert short.text == "ok"


def test_logprobs_are_of_the_models_own_distribution(make_babbler, ask, say):
    said = say(make_babbler(), ask('start: "x" "y"', num_logprobs=0))
    row = BabblingRunner()._noise[(31 * 7 + 3) % 997]
    expected = torch.log_softmax(row, -1)[said.token_ids[0]]
    assert said.logprobs[0].logprob == pytest.approx(float(expected), abs=1e-4)


@pytest.mark.parametrize("grammar", ["start: nowhere", "start: /(/", 'start: %json {"type": 1}'])
def test_a_grammar_that_is_none_ends_its_sequence_alone(make_babbler, ask, say, grammar):
    said = say(make_babbler(), ask(grammar, "ill"), ask(YES_NO, "well"))
    assert said["ill"].reason is FinishReason.ERROR
    assert said["ill"].error == "the grammar of the output cannot be used with this model"
    assert said["well"].reason is FinishReason.STOP


def test_output_that_does_not_follow_ends_with_an_error(make_babbler, ask, say):
    said = say(make_babbler(), ask(YES_NO, output=tuple(TOKENIZER.encode("maybe").ids)))
    assert said.reason is FinishReason.ERROR
    assert "does not follow" in said.error


def test_a_grammar_with_no_way_on_ends_with_an_error(make_babbler, ask, say):
    said = say(make_babbler(), ask('start: "a" NEVER\nNEVER: /b/ & /c/'))
    assert said.reason is FinishReason.ERROR
    assert "grammar" in said.error


def test_an_engine_without_a_vocabulary_says_so(make_engine, make_request, drain):
    import dataclasses

    engine, _ = make_engine()
    engine.add(dataclasses.replace(make_request("a"), grammar=YES_NO))
    (output,) = drain(engine)["a"]
    assert output.finish_reason is FinishReason.ERROR
    assert "cannot follow" in output.error


def test_a_sequence_that_is_cancelled_while_it_waits_is_gone(make_babbler, ask):
    engine = make_babbler()
    engine.add(ask(SCHEMA))
    with pytest.raises(ValueError, match="already"):
        engine.add(ask(SCHEMA))
    engine.cancel("a")
    assert not engine.has_unfinished


def test_preempted_sequences_go_on_in_their_grammar(make_babbler, ask, say):
    plan = [ask(SCHEMA, f"s{i}", seed=i) for i in range(6)]
    together = say(make_babbler(max_batch_tokens=8, max_sequences=6), *plan)
    for request in plan:
        alone = say(make_babbler(), request)
        assert together[request.sequence_id].token_ids == alone.token_ids


def test_a_model_without_an_end_of_sequence_cannot(make_engine):
    engine, _ = make_engine()
    with pytest.raises(VocabularyError, match="end-of-sequence"):
        engine.follow_grammars(TOKENIZER.to_str(), [])


def test_steps_that_overlap_change_nothing(make_babbler, ask, say):
    plan = [ask(SCHEMA, f"s{i}", seed=i) for i in range(3)]
    plan.append(ask(None, "free", max_tokens=40, stop_token_ids=frozenset()))
    plain = say(make_babbler(overlap=False), *plan)
    overlapped = say(make_babbler(overlap=True), *plan)
    for name, said in plain.items():
        assert overlapped[name].token_ids == said.token_ids
        assert overlapped[name].reason is said.reason
