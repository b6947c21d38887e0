"""Which input tokens carried an answer, as plain frozen data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from miao_client.results import ExplainMethod, Timings, TopLogprob
from miao_client.understanding_results import LabelScore


@dataclass(frozen=True, slots=True)
class InputToken:
    """A token of the input; its place is `texts[text_index].encode()[start_byte:end_byte]`."""

    token_id: int
    text: str  # empty within a character that a later token completes
    text_index: int  # which of the texts it is of
    start_byte: int  # in that text's UTF-8
    end_byte: int  # behind its last one
    is_special: bool


@dataclass(frozen=True, slots=True)
class OutputToken:
    """A token of the output, with the likeliest ones in its place."""

    token_id: int
    text: str
    logprob: float  # natural logarithm, at most 0
    candidates: tuple[TopLogprob, ...]  # likeliest first

    @property
    def probability(self) -> float:
        """How likely it was, 0 to 1."""
        return math.exp(self.logprob)


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each input token did for one thing: a token of the output, all of it, or a label.

    Attributes:
        output_index: Which token; None for the output as a whole, and for a label.
        label: Which label; None for an output.
        scores: One for each input token; above 0 where it spoke for what is explained.
        value: What is explained: the logarithm of a probability, mostly.
        baseline_value: The same with a neutral input, for integrated gradients.
        delta: By how much the scores add up to more than the difference of the two.
    """

    output_index: int | None
    label: str | None
    scores: tuple[float, ...]
    value: float
    baseline_value: float | None
    delta: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which input tokens carried an answer.

    Attributes:
        texts: What the places of tokens refer to: the input, of a pair both texts.
        input: Its tokens.
        output: What the model says, token by token; empty for a classification.
        attributions: One for each thing that is explained, in the order of the output.
        labels: Of a classification, the highest score first.
    """

    method: ExplainMethod
    texts: tuple[str, ...]
    input: tuple[InputToken, ...]
    output: tuple[OutputToken, ...]
    attributions: tuple[Attribution, ...]
    labels: tuple[LabelScore, ...]
    request_id: str
    model: str
    timings: Timings

    @property
    def output_text(self) -> str:
        """What the model says, as text."""
        return "".join(token.text for token in self.output)

    @property
    def total(self) -> tuple[float, ...]:
        """For each input token, what it did for all that is explained together."""
        columns = zip(*(each.scores for each in self.attributions), strict=True)
        return tuple(math.fsum(column) for column in columns)

    def to_html(self) -> str:
        """A page by itself: the input coloured by its shares, for all and for each token.

        It needs no script and loads nothing.
        """
        from miao_client.explanation_html import page

        return page(self)
