"""A text that a grammar leaves no choice in may be said in any tokens that make it up."""

from __future__ import annotations

import json

import pytest
from llguidance import LLMatcher
from tokenizers import Tokenizer

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.guidance.compiler import without_forcing
from miao_worker.engine.guidance.vocabulary import load_vocabulary

SCHEMA = {
    "type": "object",
    "properties": {"action": {"enum": ["set_reminder"]}, "day": {"const": "today"}},
    "required": ["action", "day"],
    "additionalProperties": False,
}
SAID = '{"action": "set_reminder", "day": "today"}'
GRAMMARS = {
    "lark": f"start: {json.dumps(SAID)}",
    "regex": LLMatcher.grammar_from_regex(r'\{"action": "set_reminder", "day": "today"\}'),
    "schema": LLMatcher.grammar_from_json_schema(
        json.dumps(SCHEMA),
        overrides={"whitespace_pattern": "[ ]", "lenient": False},  # type: ignore[arg-type]
    ),
    "options of its own": f'%llguidance {{"no_forcing": true}}\nstart: {json.dumps(SAID)}',
}
TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))


VOCABULARY = load_vocabulary(TOKENIZER.to_str(), TOKENIZER.get_vocab_size(), [2])


def allowed(matcher: LLMatcher, token_id: int) -> bool:
    return bool(matcher.compute_bitmask()[token_id // 8] >> (token_id % 8) & 1)


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS.keys())
def test_the_models_own_tokens_and_single_bytes_are_allowed(grammar):
    own = TOKENIZER.encode(SAID, add_special_tokens=False).ids
    single = [TOKENIZER.encode(c, add_special_tokens=False).ids[0] for c in SAID]
    assert len(own) < len(single)
    for token_ids in (own, single):
        matcher = LLMatcher(VOCABULARY, without_forcing(grammar))
        for token_id in token_ids:
            assert not matcher.is_stopped()
            assert allowed(matcher, token_id)
            assert matcher.consume_tokens([token_id])
        assert matcher.is_stopped()


def test_an_engine_says_a_forced_text_as_it_is_drawn(make_babbler, ask, say):
    text = '{"name": "value", "list": [true, false, null]}'
    ways = set()
    for seed in range(4):
        said = say(make_babbler(), ask(f"start: {json.dumps(text)}", seed=seed))
        assert said.text == text
        ways.add(tuple(said.token_ids))
    assert len(ways) > 1


def test_a_schema_stays_the_schema():
    unforced = without_forcing(GRAMMARS["schema"])
    assert json.loads(unforced.split("%json ")[1])["properties"] == SCHEMA["properties"]
    assert not LLMatcher.validate_grammar(unforced)
