"""What crosses an encoder engine's boundary: inputs go in, rows of numbers come out.

Plain frozen data without torch, as in `engine.types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from miao_worker.engine.explain.types import ExplanationRequest
from miao_worker.engine.types import SequenceOutput, SequenceRequest


class EncoderTask(StrEnum):
    """What an encoder makes of an input."""

    EMBED = "embed"  # a vector
    CLASSIFY = "classify"  # a score for each label
    CLASSIFY_TOKENS = "classify-tokens"  # label and score of each token


@dataclass(frozen=True, slots=True)
class EncoderInput:
    """One input in tokens, special ones included; `type_ids` are all 0 where empty."""

    token_ids: tuple[int, ...]
    type_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EncodingRequest:
    """Inputs to be computed, and what to make of the model's numbers.

    normalize: scale vectors to length 1; None as the model's files say.
    dimensions: keep the first so many numbers of each vector; None keeps all.
    raw_scores: give logits in place of probabilities.
    """

    sequence_id: str
    task: EncoderTask
    inputs: tuple[EncoderInput, ...]
    normalize: bool | None = None
    dimensions: int | None = None
    raw_scores: bool = False


@dataclass(frozen=True, slots=True)
class EncodingOutput(SequenceOutput):
    """The end of a request: for each input its row, float32 with the lowest byte first.

    Of EMBED a vector, of CLASSIFY the score of each label, of CLASSIFY_TOKENS
    the best label's number and its score for each token in turn.
    """

    rows: tuple[bytes, ...] = ()


# What an engine may be given.
EngineRequest = SequenceRequest | EncodingRequest | ExplanationRequest
