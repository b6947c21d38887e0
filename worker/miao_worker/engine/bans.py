"""Token sequences that must not be said: which token would complete one.

As transformers' NoBadWordsLogitsProcessor: the last token of a sequence is banned
where the others stand right before it, in prompt and output.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

TokenSequence = tuple[int, ...]


class Bans:
    """The banned sequences of one request."""

    def __init__(self, sequences: Items[TokenSequence]) -> None:
        self.always = sorted({each[0] for each in sequences if len(each) == 1})
        self._after: dict[int, list[TokenSequence]] = {}  # by the token before the last
        for each in sequences:
            if len(each) > 1:
                self._after.setdefault(each[-2], []).append(each)

    def completing(self, token_ids: Items[int], proposed: Items[int] = ()) -> list[int]:
        """The tokens that would complete a sequence of several, behind these tokens.

        Costs what the sequences cost whose last token but one stands there now.
        """
        if not self._after:
            return []
        last = proposed[-1] if proposed else token_ids[-1]
        candidates = self._after.get(last, ())
        return [each[-1] for each in candidates if _ends_in(token_ids, proposed, each[:-1])]

    def are_in(self, token_ids: Items[int], following: Items[int]) -> bool:
        """Whether any of the tokens that follow would complete a sequence."""
        if not (self.always or self._after):
            return False
        return any(
            token_id in self.always or token_id in self.completing(token_ids, following[:at])
            for at, token_id in enumerate(following)
        )


def _ends_in(token_ids: Items[int], proposed: Items[int], end: TokenSequence) -> bool:
    num_before = len(end) - len(proposed)
    if num_before <= 0:
        return tuple(proposed[len(proposed) - len(end) :]) == end
    if num_before > len(token_ids):
        return False
    return tuple(token_ids[-num_before:]) + tuple(proposed) == end
