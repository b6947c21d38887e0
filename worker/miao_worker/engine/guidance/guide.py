"""What one sequence may say next, by the grammar that its output follows."""

from __future__ import annotations

from collections.abc import Sequence as Items

from llguidance import LLMatcher

from miao_worker.engine.guidance.closing import Closing


class GuideError(Exception):
    """A grammar that cannot be followed; the message is one public sentence."""


TOO_COMPLEX = "the grammar of the output became too complex to follow"
CONTRADICTED = "an output token does not follow the grammar"
DEAD_END = "nothing that the grammar allows was left to say"
TOO_SHORT = "max_tokens is {}; the shortest output that the response_format allows takes {} tokens"
BANNED = "all that the grammar allows next must not be said"


class Guide:
    """Follows one sequence's output through its grammar.

    Changed by `take` alone, in the thread that steps; what looks ahead for the
    sequence's masks returns the matcher as it was.
    """

    def __init__(self, matcher: LLMatcher, closing: Closing | None = None) -> None:
        """closing: keeps room for the end of the form; None where none is kept."""
        self.matcher = matcher
        self._closing = closing
        self.is_over = matcher.is_stopped()  # nothing can follow; an end is no token then

    def take(self, token_ids: Items[int]) -> None:
        """Go on by tokens that were said. Raises GuideError where they do not follow."""
        if self.is_over or not token_ids:
            return
        if not self.matcher.consume_tokens(list(token_ids)):
            raise GuideError(CONTRADICTED)
        if self._closing is not None:
            for token_id in token_ids:
                self._closing.follow(token_id)
        self.is_over = self.matcher.is_stopped()

    def choose(self, drawn: int) -> int:
        """The token to say: the one drawn, unless the form could not be completed behind it."""
        return drawn if self._closing is None else self._closing.choose(drawn)

    def count_allowed(self, token_ids: Items[int]) -> int:
        """How many of these tokens may come next, one after the other."""
        return self.matcher.validate_tokens(list(token_ids)) if token_ids else 0
