"""Forms are complete at max_tokens, alone, speculated, resumed, and beside bans."""

from __future__ import annotations

import json

import jsonschema
import pytest
import torch
from llguidance import LLMatcher

from miao_worker.engine.guidance.shortest import Search, byte_matcher, literals_of
from miao_worker.engine.types import FinishReason

from .conftest import TOKENIZER, BabblingRunner
from .test_guided_engine import Oracle

TREE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "when": {"type": "string", "format": "date"},
        "inner": {"type": "array", "items": {"$ref": "#"}},
        "more": {
            "type": "object",
            "properties": {"long": {"enum": ["a longer text than most", "b"]}},
            "required": ["long"],
        },
    },
    "required": ["name"],
    "additionalProperties": False,
}
LISTS = {"type": "array", "items": {"type": "array", "items": {"type": ["integer", "array"]}}}


def of_json(schema: object) -> str:
    options = {"whitespace_pattern": "[ ]", "lenient": False}
    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)


GRAMMARS = {
    "tree": of_json(TREE),
    "lists": of_json(LISTS),
    "nested": 'start: "(" start* ")" | "x"',
    "choice": 'start: "yes" | "no, never" | "no, never again, not in all the days to come"',
    "lines": r'start: ("<p>" /[^<]*/ "</p>")+ "<end>"',
}


def assert_complete(name: str, text: str) -> None:
    if name in ("tree", "lists"):
        jsonschema.validate(json.loads(text), {"tree": TREE, "lists": LISTS}[name])
    else:
        matcher = byte_matcher(GRAMMARS[name])
        assert matcher.consume_tokens(list(text.encode()))
        assert matcher.is_accepting()


@pytest.mark.parametrize("name", GRAMMARS)
def test_every_form_is_complete_however_few_tokens_there_are(make_babbler, ask, say, name):
    engine = make_babbler(max_sequences=32)
    plan = [
        ask(GRAMMARS[name], f"{most}-{seed}", max_tokens=most, seed=seed, temperature=2.0)
        for most in (14, 15, 16, 18, 21, 30, 45)
        for seed in range(12)
    ]
    for sequence_id, said in say(engine, *plan).items():
        assert said.error is None or "the shortest output" in said.error
        if said.error is None:
            most = int(sequence_id.split("-")[0])
            assert len(said.token_ids) <= most
            assert_complete(name, said.text)


@pytest.mark.parametrize("name", GRAMMARS)
def test_speculation_takeover_and_overlap_change_nothing(make_babbler, ask, say, name):
    asked = {"max_tokens": 26, "temperature": 2.0, "num_logprobs": 1}
    plan = [ask(GRAMMARS[name], f"{seed}", seed=seed, **asked) for seed in range(4)]
    plain = say(make_babbler(), *plan)
    overlapped = say(make_babbler(overlap=True), *plan)
    fast = say(make_babbler(Oracle(plain), clock=lambda: 0.0), *plan)
    for sequence_id, said in plain.items():
        for other in (fast[sequence_id], overlapped[sequence_id]):
            assert other.token_ids == said.token_ids
            assert other.reason is said.reason
            assert [lp.logprob for lp in other.logprobs] == [lp.logprob for lp in said.logprobs]
        for cut in range(0, len(said.token_ids) + 1, 5):
            output = tuple(said.token_ids[:cut])
            rest = say(
                make_babbler(), ask(GRAMMARS[name], output=output, seed=int(sequence_id), **asked)
            )
            assert said.token_ids[cut:] == rest.token_ids


def test_it_says_what_it_wants_as_long_as_there_is_room(make_babbler, ask, say):
    free = say(make_babbler(), ask(GRAMMARS["lists"], max_tokens=400))
    assert free.reason is FinishReason.STOP
    size = len(free.token_ids)
    exact = say(make_babbler(), ask(GRAMMARS["lists"], max_tokens=size))
    assert exact.token_ids == free.token_ids


def test_what_is_said_instead_has_the_models_own_probability(make_babbler, ask, say):
    asked = {"max_tokens": 6, "num_logprobs": 0, "temperature": 2.0}
    said = say(make_babbler(), ask('start: "(" /[a-z ]*/ ")" "!"', **asked))
    assert said.text.endswith(")!")
    before = [7, *said.token_ids]
    for at, (token_id, logprobs) in enumerate(zip(said.token_ids, said.logprobs, strict=True)):
        row = BabblingRunner()._noise[(31 * before[at] + 3 + at) % 997]
        expected = torch.log_softmax(row, -1)[token_id]
        assert logprobs.logprob == pytest.approx(float(expected), abs=1e-4)


def test_an_output_that_may_end_is_ended_where_more_could_not_be(make_babbler, ask, say):
    grammar = 'start: "a" ("bcdefghijklmnop" "q"*)?'
    for seed in range(6):
        said = say(
            make_babbler(), ask(grammar, max_tokens=3, seed=seed, stop_token_ids=frozenset())
        )
        assert said.text == "a"
        assert said.reason is FinishReason.STOP


def test_the_end_holds_nothing_that_must_not_be_said(make_babbler, ask, say):
    close, both = TOKENIZER.token_to_id("]"), TOKENIZER.encode("]]").ids
    banned = ((close, close), tuple(both)) if len(both) == 1 else ((close, close),)
    for seed in range(12):
        asked = {"max_tokens": 20, "seed": seed, "temperature": 2.0, "bad_token_ids": banned}
        said = say(make_babbler(), ask(GRAMMARS["lists"], **asked))
        assert said.error is None
        assert_complete("lists", said.text)
        pairs = zip(said.token_ids, said.token_ids[1:], strict=False)
        assert (close, close) not in list(pairs)


def test_too_few_tokens_for_any_output_are_an_error_that_says_how_many(make_babbler, ask, say):
    said = say(make_babbler(), ask("start: /[0-9]{50}/", max_tokens=5))
    assert said.reason is FinishReason.ERROR
    assert said.error == (
        "max_tokens is 5; the shortest output that the response_format allows takes 50 tokens"
    )


def test_where_no_end_is_found_the_output_is_cut(make_babbler, ask, say, monkeypatch):
    monkeypatch.setattr(Search, "best", lambda *_: None)
    said = say(make_babbler(), ask("start: /[a-z]{50}/", max_tokens=5))
    assert len(said.token_ids) == 5
    assert said.reason is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("grammar", "begun", "size"),
    [
        ('start: "praise" | "complaint" | "q"', "", 1),
        ('start: "praise" | "complaint" | "q"', "co", 7),
        (r"start: /(.|\n)*END/", "hello", 3),
        ("start: /[a-z]{50}/", "abc", 47),
        ('start: "(" start* ")" | "x"', "((((", 4),
        (of_json({"type": "string", "format": "uuid"}), "", 38),
        (of_json({"type": "string", "format": "email"}), "", 5),
        (of_json({"type": "string", "minLength": 40}), '"', 41),
        (of_json({"anyOf": [{"const": "x" * 50}, {"const": "no"}]}), "", 4),
        (of_json({"type": ["object", "array"]}), '[[[{"a": [1, {"b": "te', 7),
    ],
)
def test_short_ends_are_found(grammar, begun, size):
    matcher = byte_matcher(grammar)
    assert matcher.consume_tokens(list(begun.encode()))
    end = Search(literals_of(grammar), 30_000).best(matcher, 1000)
    assert end is not None
    assert len(end) == size
    assert matcher.consume_tokens(list(end))
    assert matcher.is_accepting()


def test_literals_are_the_texts_of_a_grammar():
    found = literals_of('start: "<p>" /x{2}END/ "\\n\\n" "a"')
    assert {b"<p>", b"END", b"\n\n"} <= set(found)
    assert b"a" not in found
    assert literals_of(GRAMMARS["tree"]) == ()
