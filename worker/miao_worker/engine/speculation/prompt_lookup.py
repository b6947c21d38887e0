"""Proposes what followed the same few tokens earlier in the sequence itself.

Prompt lookup decoding (Saxena, 2023; github.com/apoorvumang/prompt-lookup-decoding):
answers repeat names, code and sentences of their prompts and of themselves. Here
the latest place of each run of tokens is kept in an index that grows with the
sequence, so a step costs the same however long the sequence is.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from itertools import cycle, islice

from miao_worker.engine.batch import Proposal
from miao_worker.engine.sequence import Sequence

_MATCH = 3  # tokens that must be the same


class PromptLookup:
    """The `Proposer` that needs no model. Its index lives on the sequence."""

    usual_length = 8

    def propose(self, sequences: Items[Sequence], lengths: Items[int]) -> list[Proposal]:
        """What followed the latest place of each sequence's last tokens."""
        pairs = zip(sequences, lengths, strict=True)
        return [
            _index_of(sequence).continuation(length) if length else () for sequence, length in pairs
        ]


def _index_of(sequence: Sequence) -> _Index:
    if not isinstance(sequence.lookup, _Index):
        sequence.lookup = _Index(sequence.token_ids)
    return sequence.lookup


class _Index:
    """Where each run of `_MATCH` tokens stood last, without the one at the very end."""

    def __init__(self, token_ids: list[int]) -> None:
        self._token_ids = token_ids  # the sequence's own list, which grows
        self._ends: dict[tuple[int, ...], int] = {}  # the position after the run
        self._num_indexed = _MATCH  # runs that end before this are known

    def continuation(self, num_tokens: int) -> Proposal:
        """The tokens that followed; a text that repeats itself is taken to go on so."""
        if self._num_indexed < len(self._token_ids):
            self._extend()
        end = self._ends.get(tuple(self._token_ids[-_MATCH:]))
        if end is None:
            return ()
        following = self._token_ids[end : end + num_tokens]
        return tuple(islice(cycle(following), num_tokens))

    def _extend(self) -> None:
        token_ids, ends = self._token_ids, self._ends
        for end in range(self._num_indexed, len(token_ids)):
            ends[tuple(token_ids[end - _MATCH : end])] = end
        self._num_indexed = len(token_ids)
