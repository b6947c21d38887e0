"""An explanation as pieces of text with a share each, for whoever shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from miao_client.explanation_results import Attribution, Explanation
from miao_client.results import ExplainMethod

_LEAST_SHARE = 0.005  # less is 0.00

METHODS = {
    ExplainMethod.LEAVE_ONE_OUT: "leaving one out",
    ExplainMethod.GRADIENT_X_INPUT: "gradient × input",
    ExplainMethod.INTEGRATED_GRADIENTS: "integrated gradients",
    ExplainMethod.UNSPECIFIED: "a method that is new",
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text; `score` is None where it belongs to no token."""

    text: str
    score: float | None
    is_special: bool = False


def pieces(explanation: Explanation, scores: Sequence[float]) -> list[list[Piece]]:
    """Each text in pieces, one for each place: tokens that share a character are one."""
    return [_of_text(explanation, index, scores) for index in range(len(explanation.texts))]


def largest(explanation: Explanation, scores: Sequence[float], count: int) -> list[Piece]:
    """The pieces with the largest shares, for or against, that are worth a word."""
    found = [piece for text in pieces(explanation, scores) for piece in text]
    scored = [piece for piece in found if abs(piece.score or 0.0) >= _LEAST_SHARE]
    return sorted(scored, key=lambda piece: -abs(piece.score or 0.0))[:count]


def strength(texts: Sequence[Sequence[Piece]]) -> float:
    """The share that is shown in full colour, for or against; above 0.

    The largest of all words. A template's marks and line ends may have a far larger
    one, beside which no word would be seen: they are shown in full colour too.
    """
    scored = [piece for text in texts for piece in text if piece.score]
    words = [p for p in scored if not p.is_special and any(c.isalnum() for c in p.text)]
    return max((abs(piece.score or 0.0) for piece in words or scored), default=1.0)


def depth(score: float | None, full: float) -> float:
    """How deep a share is coloured: from -1, against, to 1, for."""
    return 0.0 if score is None else max(-1.0, min(1.0, score / full))


def name_of(explanation: Explanation, attribution: Attribution) -> str:
    """What is explained, in words."""
    if attribution.label is not None:
        return attribution.label
    if attribution.output_index is None:
        return explanation.output_text
    return explanation.output[attribution.output_index].text


def probability(logarithm: float) -> str:
    """A probability to read, of its natural logarithm."""
    if logarithm > 0:
        return f"{logarithm:.3f}"  # a number of regression
    percent = 100 * math.exp(logarithm)
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.1g} %"


def _of_text(explanation: Explanation, index: int, scores: Sequence[float]) -> list[Piece]:
    data = explanation.texts[index].encode()
    found: list[Piece] = []
    at = 0
    for (start, end), score, is_special in _places(explanation, index, scores):
        if start > at:
            found.append(Piece(_text(data[at:start]), None))
        begin = max(at, start)
        if end > begin:
            found.append(Piece(_text(data[begin:end]), score, is_special))
            at = end
        elif found:  # nothing new to show: its share goes to what is shown there
            last = found[-1]
            found[-1] = Piece(last.text, (last.score or 0.0) + score, last.is_special)
    if at < len(data):
        found.append(Piece(_text(data[at:]), None))
    return found


def _places(
    explanation: Explanation, index: int, scores: Sequence[float]
) -> list[tuple[tuple[int, int], float, bool]]:
    """The places of a text's tokens in order, with their tokens' shares added up."""
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for token, score in zip(explanation.input, scores, strict=True):
        if token.text_index != index or (token.is_special and token.start_byte == token.end_byte):
            continue
        place = token.start_byte, token.end_byte
        before = found.get(place, (0.0, True))
        found[place] = before[0] + score, before[1] and token.is_special
    return [(place, *found[place]) for place in sorted(found)]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
