"""What encoders answer, as plain frozen data."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass

from miao_client.results import Timings


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of one input."""

    data: bytes  # float32, the lowest byte first; numpy.frombuffer(data, "<f4") takes it as it is
    num_tokens: int  # special ones included
    is_cut: bool  # whether the input's end was cut off
    num_cut_tokens: int = 0  # how many of its tokens were

    @property
    def values(self) -> list[float]:
        """The vector as numbers; made anew each time."""
        numbers = array("f", self.data)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector for each input, in their order."""

    embeddings: tuple[Embedding, ...]
    dimensions: int
    request_id: str
    model: str
    input_tokens: int
    timings: Timings

    @property
    def vectors(self) -> list[list[float]]:
        """All vectors as numbers; made anew each time."""
        return [embedding.values for embedding in self.embeddings]


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and how well it fits: its probability, unless raw scores were asked for."""

    label: str
    score: float  # 0 to 1; any number where raw scores were asked for


@dataclass(frozen=True, slots=True)
class TokenLabel:
    """The best label of one token, which is `text[start:end]`."""

    label: str
    score: float  # as of a label of a text
    start: int  # in characters
    end: int  # behind its last one


@dataclass(frozen=True, slots=True)
class Classification:
    """What a model says of one input: its labels, or those of its tokens."""

    labels: tuple[LabelScore, ...]  # the highest score first; empty for a model of tokens
    tokens: tuple[TokenLabel, ...]  # in order; empty for a model of texts
    num_tokens: int
    is_cut: bool
    num_cut_tokens: int = 0

    @property
    def best(self) -> LabelScore:
        """The label with the highest score; IndexError for a model of tokens."""
        return self.labels[0]


@dataclass(frozen=True, slots=True)
class Classifications:
    """A classification for each input, in their order."""

    classifications: tuple[Classification, ...]
    request_id: str
    model: str
    input_tokens: int
    timings: Timings


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A document in its place."""

    index: int  # among those that were asked about
    document: str
    score: float  # 0 to 1, higher is better; any number where raw scores were asked for
    num_tokens: int
    is_cut: bool
    num_cut_tokens: int = 0


@dataclass(frozen=True, slots=True)
class RankedDocuments:
    """Documents, the best first."""

    results: tuple[RankedDocument, ...]
    request_id: str
    model: str
    input_tokens: int
    timings: Timings
