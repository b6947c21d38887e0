"""Explains beside what an engine runs, in slices between its steps.

    add ──► is it an explanation? ── no ──► the engine within
                │ yes
                ▼
            it says what is to be explained, as a request to the engine within;
            then, a slice at a time and as `Pace` allows,
              ├─ inputs without a token, as requests to the engine within
              └─ passes by gradients, here

While nothing is to be explained, it costs a look at an empty dictionary.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.explain.explanation import Explanation
from miao_worker.engine.explain.gradient_sources import GradientSource
from miao_worker.engine.explain.gradients import RefusedError
from miao_worker.engine.explain.pace import Pace
from miao_worker.engine.explain.types import ExplanationOutput, ExplanationRequest, Method
from miao_worker.engine.protocol import ServingEngine
from miao_worker.engine.types import EngineStats, FinishReason, SequenceOutput, StepOutput

_MOST_INSIDE = 16  # inputs without a token that run at once, while nobody else does
_MOST_TOKENS_INSIDE = 2048  # of theirs
_WAIT_SECONDS = 0.05  # for weights, where there is nothing else to do


class ExplainingEngine:
    """An engine that explains too. Not thread-safe.

    Every explanation ends in exactly one output with a finish reason, unless it is
    cancelled. One graph of gradients is held at a time.
    """

    def __init__(
        self,
        inner: ServingEngine,
        methods: tuple[Method, ...],
        make: Callable[[ExplanationRequest], Explanation],
        gradients: GradientSource,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`make` raises RefusedError for what this engine cannot explain."""
        self.inner = inner
        self.methods = methods
        self._make = make
        self._gradients = gradients
        self._clock = clock
        self._pace = Pace()
        self._running: OrderedDict[str, Explanation] = OrderedDict()  # whose turn it is: first
        self._inside: dict[str, tuple[Explanation, int]] = {}  # requests of theirs, with tokens
        self._others: set[str] = set()  # all else that runs within
        self._ended: list[SequenceOutput] = []
        self._stats = EngineStats()

    @property
    def has_unfinished(self) -> bool:
        """Whether another step has anything to do or to report."""
        return bool(self._running or self._ended) or self.inner.has_unfinished

    def add(self, request: EngineRequest) -> None:
        """Queue a request. One that cannot run ends with ERROR in the next step.

        Raises ValueError for an id that is already here.
        """
        if not isinstance(request, ExplanationRequest):
            self.inner.add(request)
            self._others.add(request.sequence_id)
            return
        if request.sequence_id in self._running:
            raise ValueError(f"explanation {request.sequence_id} is already in the engine")
        try:
            if request.method not in self.methods:
                raise RefusedError("the model does not explain that way here")
            explanation = self._make(request)
        except RefusedError as error:
            self._ended.append(_refused(request, str(error)))
            return
        self._running[request.sequence_id] = explanation
        self._run_next(explanation)  # what it says is a request like any other
        self._settle(explanation)

    def cancel(self, sequence_id: str) -> None:
        """Take a request out; nothing more is reported of it."""
        explanation = self._running.pop(sequence_id, None)
        if explanation is not None:
            self._leave(explanation)
            return
        self._others.discard(sequence_id)
        self._ended = [output for output in self._ended if output.sequence_id != sequence_id]
        self.inner.cancel(sequence_id)

    def register_adapter(self, adapter_id: str, folder: Path) -> None:
        """As the engine within."""
        self.inner.register_adapter(adapter_id, folder)

    def drop_adapter(self, adapter_id: str) -> None:
        """As the engine within."""
        self.inner.drop_adapter(adapter_id)

    def step(self) -> StepOutput:
        """A slice of explaining, if it is time for one, and a step of all else."""
        if not (self._running or self._ended):
            return self._note(self.inner.step())
        has_explained = self._explain()
        if self.inner.has_unfinished:
            self._step_within()
        elif self._running and not has_explained:
            self._gradients.wait(_WAIT_SECONDS)
        outputs, self._ended = self._ended, []
        return StepOutput(tuple(outputs), self._stats)

    def _explain(self) -> bool:
        """Advance the first of those that can be; whether there was one."""
        seconds = self._pace.slice_seconds(others_run=bool(self._others))
        if not seconds:
            return False
        for explanation in list(self._running.values()):
            if self._advance(explanation, seconds):
                self._settle(explanation)
                return True
        return False

    def _advance(self, explanation: Explanation, seconds: float) -> bool:
        if explanation.wants_gradients:
            self._begin(explanation)
        if explanation.passes is not None:
            self._pass(explanation, seconds)
            return True
        has_run = False
        while self._has_room and self._run_next(explanation):
            has_run = True
        if has_run:
            self._running.move_to_end(explanation.request.sequence_id)
        return has_run or explanation.output is not None

    def _begin(self, explanation: Explanation) -> None:
        try:
            model = self._gradients.get()
        except RefusedError as error:
            explanation.fail(str(error), is_refused=True)
            return
        if model is not None:
            explanation.begin(model)

    def _pass(self, explanation: Explanation, seconds: float) -> None:
        """Make passes for so long, one at least; who holds a graph then keeps its turn."""
        assert explanation.passes is not None
        explanation.pass_seconds = seconds
        started, holds_graph = self._clock(), False
        try:
            while self._clock() - started < seconds:
                holds_graph = next(explanation.passes)
        except StopIteration:
            holds_graph = False
        except RefusedError as error:
            explanation.fail(str(error), is_refused=True)
            holds_graph = False
        self._pace.spent(self._clock() - started)
        if not holds_graph:
            self._running.move_to_end(explanation.request.sequence_id)

    @property
    def _has_room(self) -> bool:
        """Whether another input without a token may run within."""
        if self._others:
            return not self._num_left_out
        tokens = sum(count for _, count in self._inside.values())
        return len(self._inside) < _MOST_INSIDE and tokens < _MOST_TOKENS_INSIDE

    @property
    def _num_left_out(self) -> int:
        """How many inputs without a token run within."""
        return sum(e.inside.get(name) is not None for name, (e, _) in self._inside.items())

    def _run_next(self, explanation: Explanation) -> bool:
        """Hand the engine within what an explanation asks for next; whether there was something."""
        request = explanation.next_request()
        if request is None:
            return False
        self._inside[request.sequence_id] = (explanation, len(explanation.request.token_ids))
        self.inner.add(request)
        return True

    def _step_within(self) -> None:
        """A step of the engine within; what of it is an explanation's is taken."""
        leaves_out = self._num_left_out > 0
        started = self._clock()
        step = self._note(self.inner.step())
        seconds = self._clock() - started
        if leaves_out:
            self._pace.spent(seconds)
        else:
            self._pace.others_ran(seconds)
        for output in step.outputs:
            entry = self._inside.get(output.sequence_id)
            if entry is None:
                self._ended.append(output)
                continue
            if output.finish_reason is not None:
                del self._inside[output.sequence_id]
            entry[0].take(output)
            self._settle(entry[0])

    def _note(self, step: StepOutput) -> StepOutput:
        self._stats = step.stats
        for output in step.outputs:
            if output.finish_reason is not None:
                self._others.discard(output.sequence_id)
        return step

    def _settle(self, explanation: Explanation) -> None:
        """Report an explanation that is over."""
        if explanation.output is None:
            return
        if self._running.pop(explanation.request.sequence_id, None) is not None:
            self._ended.append(explanation.output)
            self._leave(explanation)

    def _leave(self, explanation: Explanation) -> None:
        """Let go of all that an explanation has."""
        for name in explanation.inside:
            self._inside.pop(name, None)
            self.inner.cancel(name)
        if explanation.passes is not None:
            explanation.passes.close()
            explanation.passes = None
        if not self._running:
            self._gradients.release()


def _refused(request: ExplanationRequest, error: str) -> ExplanationOutput:
    return ExplanationOutput(
        request.sequence_id, finish_reason=FinishReason.ERROR, error=error, is_refused=True
    )
