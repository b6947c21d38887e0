"""What one sequence may say next, by the grammar that its output follows."""

from __future__ import annotations

from collections.abc import Sequence as Items

from llguidance import LLMatcher


class GuideError(Exception):
    """A grammar that cannot be followed; the message is one public sentence."""


TOO_COMPLEX = "the grammar of the output became too complex to follow"
CONTRADICTED = "an output token does not follow the grammar"
DEAD_END = "nothing that the grammar allows was left to say"
BANNED = "all that the grammar allows next must not be said"


class Guide:
    """Follows one sequence's output through its grammar.

    Changed by `take` alone, in the thread that steps; what looks ahead for the
    sequence's masks returns the matcher as it was.
    """

    def __init__(self, matcher: LLMatcher) -> None:
        self.matcher = matcher
        self.is_over = matcher.is_stopped()  # nothing can follow; an end is no token then

    def take(self, token_ids: Items[int]) -> None:
        """Go on by tokens that were said. Raises GuideError where they do not follow."""
        if self.is_over or not token_ids:
            return
        if not self.matcher.consume_tokens(list(token_ids)):
            raise GuideError(CONTRADICTED)
        self.is_over = self.matcher.is_stopped()

    def count_allowed(self, token_ids: Items[int]) -> int:
        """How many of these tokens may come next, one after the other."""
        return self.matcher.validate_tokens(list(token_ids)) if token_ids else 0
