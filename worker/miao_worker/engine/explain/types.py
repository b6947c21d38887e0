"""What crosses the boundary of an engine that explains: inputs go in, their tokens' shares out.

Plain frozen data without torch, as in `engine.types`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from miao_worker.engine.types import SequenceOutput

MAX_TOKENS = 1024  # of input and output together
MAX_OUTPUT_TOKENS = 64
MAX_STEPS = 256


class Method(StrEnum):
    """How a token's share is found."""

    LEAVE_ONE_OUT = "leave-one-out"
    GRADIENT_X_INPUT = "gradient-x-input"
    INTEGRATED_GRADIENTS = "integrated-gradients"

    @property
    def needs_gradients(self) -> bool:
        return self is not Method.LEAVE_ONE_OUT


@dataclass(frozen=True, slots=True)
class OutputTarget:
    """The output of a model that generates.

    token_ids: what it is taken to say; empty: what it says by itself, `max_tokens` at
        most, to the first of `stop_token_ids`.
    positions: the tokens of the output to explain; empty: all.
    is_whole: explain them together.
    """

    token_ids: tuple[int, ...] = ()
    max_tokens: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    num_candidates: int = 0
    positions: tuple[int, ...] = ()
    is_whole: bool = False
    adapter: str | None = None  # its id
    cache_scope: bytes = b""  # as a SequenceRequest's


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """A label of a model that classifies, by its number; None: the best one."""

    label: int | None = None
    type_ids: tuple[int, ...] = ()  # of the input's tokens; all 0 where empty


@dataclass(frozen=True, slots=True)
class ExplanationRequest:
    """Find what each of the input's tokens did for the target.

    places: of the tokens that are looked at, ascending; the others stay as they are.
    steps: points on the way, with integrated gradients.
    """

    sequence_id: str
    token_ids: tuple[int, ...]
    places: tuple[int, ...]
    method: Method
    target: OutputTarget | LabelTarget
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each token did for one thing that is explained.

    position: of the output's token; None: the output as a whole, or a label.
    scores: one for each token of the input, 0 where it was not looked at.
    value: what is explained. baseline_value: with all that is looked at neutral.
    """

    position: int | None
    scores: tuple[float, ...]
    value: float
    baseline_value: float | None = None

    @property
    def delta(self) -> float | None:
        """By how much the scores add up to more than they should; None where that is not said."""
        if self.baseline_value is None:
            return None
        return sum(self.scores) - (self.value - self.baseline_value)


@dataclass(frozen=True, slots=True)
class ExplanationOutput(SequenceOutput):
    """The end of an explanation; of a model that generates with the output and its candidates.

    label_scores: of a model that classifies; `label` is the one that is explained.
    is_refused: it failed since this engine cannot do it, as `error` says, not by a fault.
    """

    attributions: tuple[Attribution, ...] = ()
    label_scores: tuple[float, ...] = ()
    label: int = 0
    is_refused: bool = False
