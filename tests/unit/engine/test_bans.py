"""Which token would complete a banned sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from miao_worker.engine.bans import Bans

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=4)


@given(st.lists(TOKENS, max_size=6), st.lists(st.integers(0, 2), min_size=1, max_size=8), st.data())
def test_those_that_would_end_what_is_banned(
    banned: list[list[int]], tokens: list[int], data: st.DataObject
) -> None:
    split = data.draw(st.integers(1, len(tokens)))
    bans = Bans([tuple(each) for each in banned])
    before, proposed = tokens[:split], tuple(tokens[split:])
    for token in range(3):
        text = [*tokens, token]
        ends = any(text[-len(each) :] == each for each in banned)
        assert (token in bans.always or token in bans.completing(before, proposed)) == ends
        assert not ends or bans.are_in(before, (*proposed, token))
