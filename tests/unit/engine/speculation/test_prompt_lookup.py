"""What the prompt lookup finds, and that it looks at each token once."""

from __future__ import annotations

import pytest

from miao_worker.engine.sequence import Sequence
from miao_worker.engine.speculation.prompt_lookup import PromptLookup
from miao_worker.engine.types import SamplingParams


def sequence(*token_ids):
    return Sequence("s", SamplingParams(9, 0), list(token_ids), len(token_ids))


@pytest.mark.parametrize(
    ("token_ids", "length", "expected"),
    [
        ((1, 2, 3, 4, 5, 6, 1, 2, 3), 2, (4, 5)),
        ((1, 2, 3, 4, 5, 6, 1, 2, 3), 3, (4, 5, 6)),
        ((1, 2, 3, 8, 1, 2, 3, 9, 0, 0, 1, 2, 3), 1, (9,)),  # the latest place
        ((1, 2, 3, 4, 1, 2, 3), 6, (4, 1, 2, 3, 4, 1)),  # a cycle goes on
        ((7, 7, 7, 7), 3, (7, 7, 7)),
        ((1, 2, 3, 4, 5, 2, 3), 4, ()),  # two tokens are not enough
        ((1, 2, 3), 4, ()),  # the run itself is no place
        ((1, 2), 4, ()),
        ((1,), 4, ()),
    ],
)
def test_it_proposes_what_followed(token_ids, length, expected):
    assert PromptLookup().propose([sequence(*token_ids)], [length]) == [expected]


def test_it_learns_as_the_sequence_grows():
    lookup, growing = PromptLookup(), sequence(1, 2, 3)
    for token_id, expected in ((4, ()), (1, ()), (2, ()), (3, (4, 1)), (4, (1, 2)), (9, ())):
        growing.token_ids.append(token_id)
        assert lookup.propose([growing], [2]) == [expected]


def test_sequences_do_not_see_each_other():
    lookup = PromptLookup()
    one, other = sequence(1, 2, 3, 4, 1, 2, 3), sequence(5, 1, 2, 3)
    assert lookup.propose([one, other, one], [1, 1, 0]) == [(4,), (), ()]


def test_a_step_looks_at_new_tokens_alone():
    class Counting(list):
        num_read = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            self.num_read += len(found) if isinstance(key, slice) else 1
            return found

    lookup, long = PromptLookup(), sequence()
    long.token_ids = Counting(range(10_000))
    lookup.propose([long], [4])
    long.token_ids.num_read = 0
    long.token_ids.append(1)
    lookup.propose([long], [4])
    assert long.token_ids.num_read < 20
