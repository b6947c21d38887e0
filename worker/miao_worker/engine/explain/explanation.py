"""One explanation on its way through an engine.

    said       what the model says to the input, and with which probability
      │
      ├─ leave one out      the same for the input without each of its tokens, as
      │                     requests to the engine itself
      └─ by gradients       passes that `gradients.py` makes, one after the other

Whoever drives it hands the engine what `next_request` asks for, brings what comes
of it to `take`, and advances `passes` where there are any, until `output` is there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Generator

import torch

from miao_worker.engine.encoder.types import EncodingRequest
from miao_worker.engine.explain.gradients import (
    GradientModel,
    GradientTask,
    Pass,
    RefusedError,
    attribute,
)
from miao_worker.engine.explain.types import (
    MAX_STEPS,
    MAX_TOKENS,
    Attribution,
    ExplanationOutput,
    ExplanationRequest,
    Method,
)
from miao_worker.engine.types import FinishReason, SequenceOutput, SequenceRequest

_NOT_FINITE = "the explanation's numbers were not finite"
_OUT_OF_MEMORY = "the device has no memory left for these gradients: shorten them, or leave one out"


class Explanation(ABC):
    """A request, what was found of it so far, and in the end its output."""

    def __init__(self, request: ExplanationRequest) -> None:
        self.request = request
        self.output: ExplanationOutput | None = None
        self.passes: Generator[Pass, None, None] | None = None
        self.pass_seconds = 0.0  # that a pass should take at most
        self.inside: dict[str, int | None] = {}  # what runs: the place left out, None for nothing
        self._to_say = True
        self._to_leave_out: deque[int] = deque()
        self._without: dict[int, tuple[float, ...]] = {}  # values, by the place left out
        fault = explanation_fault(request)
        if fault is not None:
            self.fail(fault)

    @property
    def is_said(self) -> bool:
        """Whether it is known what is to be explained."""
        return not self._to_say and None not in self.inside.values()

    @property
    def wants_gradients(self) -> bool:
        """Whether `begin` is to be called."""
        has_to = self.request.method.needs_gradients and self.passes is None
        return has_to and self.is_said and self.output is None

    def next_request(self) -> SequenceRequest | EncodingRequest | None:
        """What the engine is to run now; None where there is nothing, or nothing yet."""
        if self.output is not None:
            return None
        if self._to_say:
            self._to_say = False
            return self._enter(None, self._saying(f"{self.request.sequence_id}/said"))
        if not self._to_leave_out:
            return None
        place = self._to_leave_out.popleft()
        name = f"{self.request.sequence_id}/{place}"
        return self._enter(place, self._leaving_out(place, name))

    def take(self, output: SequenceOutput) -> None:
        """Take what the engine brought of a request."""
        place = self.inside[output.sequence_id]
        if output.finish_reason is not None:
            del self.inside[output.sequence_id]
        if output.finish_reason is FinishReason.ERROR:
            self.fail(output.error or "the engine could not run a part of the explanation")
        elif self.output is not None:
            return
        elif place is None:
            self._take_said(output)
        else:
            values = self._take_without(output)
            if values is not None:
                self._without[place] = values
                self._conclude_if_all_are_there()

    def begin(self, model: GradientModel) -> None:
        """Make `passes`, which conclude it."""
        self.passes = model.in_turns(self._pass(model), lambda: self.pass_seconds)

    def _pass(self, model: GradientModel) -> Generator[Pass, None, None]:
        request, task = self.request, self.gradient_task()
        try:
            found = yield from attribute(
                model, task, request.method, request.steps, lambda: self.pass_seconds
            )
        except torch.OutOfMemoryError:
            raise RefusedError(_OUT_OF_MEMORY) from None
        self.conclude(self._attributions(found.scores, found.values, found.baselines))

    def leave_out_all(self) -> None:
        """Begin to leave the tokens out: it is said what is to be explained."""
        self._to_leave_out.extend(self.request.places)

    def conclude(self, attributions: tuple[Attribution, ...]) -> None:
        """Be over, with what was found."""
        if any(not _is_finite(each) for each in attributions):
            self.fail(_NOT_FINITE)
            return
        self.output = self._answer(attributions)

    def fail(self, error: str, *, is_refused: bool = False) -> None:
        """Be over, without an answer."""
        if self.output is None:
            self.output = ExplanationOutput(
                self.request.sequence_id,
                finish_reason=FinishReason.ERROR,
                error=error,
                is_refused=is_refused,
            )
        self._to_leave_out.clear()

    @abstractmethod
    def gradient_task(self) -> GradientTask:
        """What the passes are to differentiate."""

    @abstractmethod
    def _saying(self, name: str) -> SequenceRequest | EncodingRequest: ...

    @abstractmethod
    def _take_said(self, output: SequenceOutput) -> None:
        """Take what is said; `leave_out_all` when it is whole and the method is that one."""

    @abstractmethod
    def _leaving_out(self, place: int, name: str) -> SequenceRequest | EncodingRequest: ...

    @abstractmethod
    def _take_without(self, output: SequenceOutput) -> tuple[float, ...] | None:
        """The values of all that is explained, when all of them have come."""

    @abstractmethod
    def _values(self) -> tuple[float, ...]:
        """The value of each thing that is explained, as it was said."""

    @abstractmethod
    def _positions(self) -> tuple[int | None, ...]:
        """What each of those things is: a place in the output, or None."""

    @abstractmethod
    def _answer(self, attributions: tuple[Attribution, ...]) -> ExplanationOutput: ...

    def _attributions(
        self, scores: list[tuple[float, ...]], values: tuple[float, ...], baselines: list[float]
    ) -> tuple[Attribution, ...]:
        """One for each thing that is explained; `baselines` may be empty."""
        return tuple(
            Attribution(position, scores[i], values[i], baselines[i] if baselines else None)
            for i, position in enumerate(self._positions())
        )

    def _enter(
        self, place: int | None, request: SequenceRequest | EncodingRequest
    ) -> SequenceRequest | EncodingRequest:
        self.inside[request.sequence_id] = place
        return request

    def _conclude_if_all_are_there(self) -> None:
        if len(self._without) < len(self.request.places):
            return
        values = self._values()
        scores = []
        for which, value in enumerate(values):
            row = [0.0] * len(self.request.token_ids)
            for place, without in self._without.items():
                row[place] = value - without[which]
            scores.append(tuple(row))
        self.conclude(self._attributions(scores, values, []))


def explanation_fault(request: ExplanationRequest) -> str | None:
    """Why the request cannot run, whatever the model; None where it can."""
    length = len(request.token_ids)
    if not 0 < length <= MAX_TOKENS:
        return f"the input has {length} tokens, not 1 to {MAX_TOKENS}"
    places = request.places
    if (
        not places
        or list(places) != sorted(set(places))
        or not 0 <= places[0] <= places[-1] < length
    ):
        return "the places to look at are not ascending within the input"
    if request.method is Method.LEAVE_ONE_OUT and length < 2:
        return "of an input of one token none can be left out"
    if request.method is Method.INTEGRATED_GRADIENTS and not 2 <= request.steps <= MAX_STEPS:
        return f"there are {request.steps} steps, not 2 to {MAX_STEPS}"
    return None


def _is_finite(attribution: Attribution) -> bool:
    numbers = (*attribution.scores, attribution.value, attribution.baseline_value or 0.0)
    return all(abs(number) < float("inf") for number in numbers)
