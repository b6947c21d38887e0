"""The steps of a scripted generation."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from miao_client.results import FinishReason
from miao_client.tools import ToolCallDelta


@dataclass(frozen=True, slots=True)
class Say:
    """One token: the text that it adds, or its share of thoughts or of a call of a function."""

    text: str = ""
    reasoning: str = ""
    call: ToolCallDelta | None = None
    answer: int | None = None  # which of several answers says it; None: each of them
    logprob: float = -0.5  # told where the request asks for log-probabilities
    top: Mapping[str, float] | None = None  # the likeliest texts with theirs


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing comes for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing comes before the event is set."""

    event: threading.Event


@dataclass(frozen=True, slots=True)
class Cut:
    """Here the connection of whoever reads first breaks; the generation itself goes on."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The generation fails here, after it was accepted."""

    message: str = "the model failed"
    code: str = "INTERNAL"  # a gRPC status code's name


@dataclass(frozen=True, slots=True)
class End:
    """The generation ends here, for this reason; without one it ends as by a stop."""

    reason: FinishReason = FinishReason.STOP
    stopped_by: str | None = None


Step: TypeAlias = str | Say | Pause | Wait | Cut | Fail | End  # a str is Say(text)
