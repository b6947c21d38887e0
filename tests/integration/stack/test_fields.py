"""Fields of a request through the whole stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from miao_client import Client, InvalidRequestError

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
