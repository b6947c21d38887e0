"""What a sequence knows of its tokens, as penalties read it."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from miao_worker.engine.known_tokens import KnownTokens

TOKENS = st.lists(st.integers(0, 700), max_size=400)


def told(known: KnownTokens, proposed: list[int]) -> dict[int, float]:
    ids, counts = known.with_said(proposed)
    assert len(set(ids.tolist())) == len(ids) == len(counts)
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))


@given(prompt=TOKENS, said=st.lists(TOKENS, max_size=4), proposed=TOKENS)
def test_counts_are_those_of_the_output_and_proposals_leave_no_trace(
    prompt: list[int], said: list[list[int]], proposed: list[int]
) -> None:
    known = KnownTokens(torch.device("cpu"))
    known.add(prompt, are_said=False)
    for tokens in said:
        known.add(tokens, are_said=True)
    counts = Counter(token for tokens in said for token in tokens)
    expected = {token: float(counts[token]) for token in (*prompt, *counts)}
    assert told(known, []) == expected
    with_proposed = counts + Counter(proposed)
    everything = {token: float(with_proposed[token]) for token in (*expected, *proposed)}
    assert told(known, proposed) == everything
    assert told(known, []) == expected
