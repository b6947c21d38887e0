"""Fields of a request through the whole stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from miao_client import Client, GenerationResult, InvalidRequestError, TokenIds

PROMPT = "the quick brown fox"
PLAIN: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True}


def holds(said: Sequence[int], sequence: Sequence[int]) -> bool:
    size = len(sequence)
    return any(list(said[i : i + size]) == list(sequence) for i in range(len(said)))


def test_bad_words_are_not_said(client: Client) -> None:
    free = client.generate(PROMPT, **PLAIN).result()
    banned = [free.token_ids[2:4], [free.token_ids[7]]]
    said = client.generate(PROMPT, bad_token_ids=banned, **PLAIN).result().token_ids
    assert not any(holds(said, sequence) for sequence in banned)
    texts = {free.text[at : at + 2].strip() for at in range(30)} - {""}
    tokens = {text: client.tokenize(text).token_ids for text in texts}
    spelled = {text: ids for text, ids in tokens.items() if holds(free.token_ids, ids)}
    assert spelled
    said = client.generate(PROMPT, bad_words=list(spelled), **PLAIN).result().token_ids
    assert not any(holds(said, sequence) for sequence in spelled.values())


def test_bad_words_that_cannot_be_are_refused_by_their_field(client: Client) -> None:
    eos = client.generate(PROMPT, temperature=1, seed=1).result().token_ids[-1]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"bad_token_ids": [[1], [10**6]]}, "spec.bad_token_ids[1].ids[0]"),
        ({"bad_token_ids": [[eos]]}, "spec.bad_token_ids[0]"),
    ]
    for options, field in cases:
        with pytest.raises(InvalidRequestError) as refused:
            client.generate(PROMPT, **options).result()
        assert [each.field for each in refused.value.violations] == [field]


def test_a_prompt_that_is_too_long_is_shortened_as_asked(client: Client) -> None:
    context = client.model("tiny").max_model_length
    ids = [5 + at % 40 for at in range(context + 10)]
    asked: dict[str, Any] = {"max_tokens": 4, "temperature": 0, "ignore_eos": True}

    def say(prompt: Any, **options: Any) -> GenerationResult:
        return client.generate(prompt, **asked, **options).result()

    room = context - 4
    expected = {
        "keep_end": ids[-room:],
        "keep_beginning": ids[:room],
        "keep_both_ends": ids[: room // 2] + ids[-room // 2 :],
    }
    for truncation, kept in expected.items():
        found = say(ids, truncation=truncation)
        assert found.token_ids == say(kept).token_ids
        assert found.usage is not None
        assert (found.usage.prompt_tokens, found.num_dropped_prompt_tokens) == (room, 14)
    found = say(ids, truncation="keep_end", max_prompt_tokens=20)
    assert found.token_ids == say(ids[-20:]).token_ids
    with pytest.raises(InvalidRequestError, match=r"spec\.token_ids.*context"):
        say(ids)
    with pytest.raises(InvalidRequestError, match=r"spec\.token_ids.*max_prompt_tokens allows 20"):
        say(ids[:30], max_prompt_tokens=20)


def test_a_conversation_loses_its_oldest_turns(client: Client) -> None:
    system, last = {"role": "system", "content": "s"}, {"role": "user", "content": "again?"}
    turn = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "oh " * 9}]
    asked: dict[str, Any] = {"max_tokens": 4, "temperature": 0, "ignore_eos": True}
    kept = client.generate([system, *turn, last], **asked).result()
    assert kept.usage is not None
    room = kept.usage.prompt_tokens
    found = client.generate(
        [system, *turn * 4, last], max_prompt_tokens=room, truncation="keep_end", **asked
    ).result()
    assert found.token_ids == kept.token_ids
    assert found.usage is not None
    assert found.usage.prompt_tokens == room
    assert found.num_dropped_prompt_tokens > 0


def test_a_score_keeps_its_target_and_the_end_of_what_stands_before(client: Client) -> None:
    context = client.model("tiny").max_model_length
    ids = [5 + at % 40 for at in range(context)]
    target = TokenIds([9, 8, 7])
    score = client.score(target, prompt=TokenIds(ids), truncation="keep_end")
    assert score.num_dropped_prompt_tokens == 3
    assert score == replace(
        client.score(target, prompt=TokenIds(ids[3:])),
        num_dropped_prompt_tokens=3,
        generation_id=score.generation_id,
        usage=score.usage,
        timings=score.timings,
    )


def test_a_prompt_is_shared_with_those_of_its_salt_alone(client: Client) -> None:
    prompt = [7 + at % 50 for at in range(70)]

    def cached(salt: str | None) -> int:
        result = client.generate(TokenIds(prompt), max_tokens=1, cache_salt=salt).result()
        return result.usage.cached_prompt_tokens

    assert [cached(salt) for salt in (None, "a", "b")] == [0, 0, 0]
    assert len({cached(salt) for salt in (None, "a", "b")} - {0}) == 1
