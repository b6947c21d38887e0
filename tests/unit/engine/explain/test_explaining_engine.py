"""Explaining beside other work: who runs when, what is let go of, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.explain import explanation as explanation_module
from miao_worker.engine.explain.engine import ExplainingEngine
from miao_worker.engine.explain.gradient_sources import CopiedModel, NoGradients
from miao_worker.engine.explain.gradients import Found, RefusedError
from miao_worker.engine.explain.of_output import OutputExplanation
from miao_worker.engine.explain.pace import Pace
from miao_worker.engine.explain.types import (
    ExplanationOutput,
    ExplanationRequest,
    LabelTarget,
    Method,
    OutputTarget,
)
from miao_worker.engine.types import (
    FinishReason,
    SequenceOutput,
    SequenceRequest,
    StepOutput,
    TokenLogprobs,
)


class Clock:
    """Tells the seconds that a test says have passed."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class InnerEngine:
    """Scores by the tokens' sum; a step brings all that is scored, and a token of all else."""

    def __init__(self, clock: Clock) -> None:
        self.running: dict[str, SequenceRequest] = {}
        self.steps: list[list[str]] = []
        self.cancelled: list[str] = []
        self._clock = clock

    @property
    def has_unfinished(self) -> bool:
        return bool(self.running)

    def add(self, request: EngineRequest) -> None:
        assert isinstance(request, SequenceRequest)
        self.running[request.sequence_id] = request

    def cancel(self, sequence_id: str) -> None:
        self.running.pop(sequence_id, None)
        self.cancelled.append(sequence_id)

    def step(self) -> StepOutput:
        self._clock.now += 0.01
        self.steps.append(list(self.running))
        outputs = tuple(self._output(request) for request in self.running.values())
        self.running = {
            name: request for name, request in self.running.items() if request.sampling.max_tokens
        }
        return StepOutput(outputs)

    def _output(self, request: SequenceRequest) -> SequenceOutput:
        if request.sampling.max_tokens:
            return SequenceOutput(request.sequence_id, token_ids=(1,))
        scored = request.prompt_token_ids[request.score_from :]
        total = float(sum(request.prompt_token_ids[: request.score_from]))
        scores = tuple(TokenLogprobs(-total * token) for token in scored)
        return SequenceOutput(
            request.sequence_id, prompt_logprobs=scores, finish_reason=FinishReason.LENGTH
        )


def ask(name: str, method: Method = Method.LEAVE_ONE_OUT, **target: Any) -> ExplanationRequest:
    wanted = OutputTarget(**{"token_ids": (2, 3)} | target)
    steps = 8 if method is Method.INTEGRATED_GRADIENTS else 0
    return ExplanationRequest(name, (10, 20, 30), (0, 1, 2), method, wanted, steps)


def generation(name: str) -> SequenceRequest:
    from miao_worker.engine.types import SamplingParams

    return SequenceRequest(name, (1,), SamplingParams(max_tokens=1000, seed=0))


def make(request: ExplanationRequest) -> OutputExplanation:
    if not isinstance(request.target, OutputTarget):
        raise RefusedError("the model does not classify")
    return OutputExplanation(request, request.target)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inner(clock: Clock) -> InnerEngine:
    return InnerEngine(clock)


@pytest.fixture
def engine(inner: InnerEngine, clock: Clock) -> ExplainingEngine:
    return ExplainingEngine(inner, tuple(Method), make, NoGradients(), clock)


def drain(engine: ExplainingEngine, until: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    outputs: dict[str, Any] = {}
    for _ in range(1000):
        if not engine.has_unfinished or until():
            return outputs
        for output in engine.step().outputs:
            if output.finish_reason is not None:
                assert output.sequence_id not in outputs
                outputs[output.sequence_id] = output
    raise AssertionError("it does not come to an end")


def test_a_share_is_what_is_lost_without_the_token(engine: ExplainingEngine) -> None:
    engine.add(ask("a"))
    found = drain(engine)["a"]
    assert found.token_ids == (2, 3)
    first, second = found.attributions
    assert first.scores == (-20.0, -40.0, -60.0)
    assert second.scores == (-30.0, -60.0, -90.0)
    assert (first.value, second.value) == (-120.0, -180.0)


def test_chosen_positions_alone_and_together(engine: ExplainingEngine) -> None:
    engine.add(ask("a", positions=(1, 9)))
    engine.add(ask("b", is_whole=True))
    found = drain(engine)
    assert [each.position for each in found["a"].attributions] == [1]
    assert found["b"].attributions[0].scores == (-50.0, -100.0, -150.0)


def test_beside_others_one_input_at_a_time_and_a_quarter_of_the_time(
    engine: ExplainingEngine, inner: InnerEngine
) -> None:
    engine.add(generation("other"))
    engine.add(ask("a"))
    outputs = drain(engine, until=lambda: len(inner.steps) >= 20)
    assert outputs["a"].finish_reason is FinishReason.STOP
    explaining = [sum(name[:2] == "a/" and name != "a/said" for name in s) for s in inner.steps]
    assert max(explaining) == 1
    at = [step for step, count in enumerate(explaining) if count]
    assert all(later - earlier >= 4 for earlier, later in pairwise(at))
    assert all("other" in names for names in inner.steps)


def test_alone_many_inputs_run_at_once(engine: ExplainingEngine, inner: InnerEngine) -> None:
    engine.add(ask("a"))
    drain(engine)
    assert inner.steps == [["a/said"], ["a/0", "a/1", "a/2"]]


def test_what_is_cancelled_leaves_nothing_behind(
    engine: ExplainingEngine, inner: InnerEngine
) -> None:
    engine.add(ask("a"))
    engine.add(ask("b"))
    engine.cancel("a")
    assert list(drain(engine)) == ["b"]
    assert "a/said" in inner.cancelled
    assert not inner.running


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ask("a", Method.GRADIENT_X_INPUT), "takes no gradients: leave one out"),
        (ask("a", token_ids=(1,) * 65), "65 tokens of output, not 1 to 64"),
        (ask("a", token_ids=()), "0 tokens of output"),
        (ask("a", positions=(2, 5)), "none of the positions is within the output"),
        (
            ExplanationRequest(
                "a", (1,) * 1000, (0,), Method.LEAVE_ONE_OUT, OutputTarget((1,) * 25)
            ),
            "more than 1024 tokens",
        ),
        (
            ExplanationRequest("a", (1,), (0,), Method.LEAVE_ONE_OUT, OutputTarget((1,))),
            "none can be left out",
        ),
        (
            ExplanationRequest("a", (1, 2), (1, 0), Method.LEAVE_ONE_OUT, OutputTarget((1,))),
            "not ascending",
        ),
        (
            ExplanationRequest(
                "a", (1, 2), (0,), Method.INTEGRATED_GRADIENTS, OutputTarget((1,)), 1
            ),
            "1 steps, not 2 to 256",
        ),
        (
            ExplanationRequest("a", (1, 2), (0,), Method.LEAVE_ONE_OUT, LabelTarget(0)),
            "does not classify",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_explained_ends_with_a_sentence(
    engine: ExplainingEngine, request_: ExplanationRequest, words: str
) -> None:
    engine.add(request_)
    output = drain(engine)["a"]
    assert output.finish_reason is FinishReason.ERROR
    assert words in (output.error or "")


def test_a_method_that_is_not_offered_is_refused(inner: InnerEngine, clock: Clock) -> None:
    engine = ExplainingEngine(inner, (), make, NoGradients(), clock)
    engine.add(ask("a"))
    output = drain(engine)["a"]
    assert isinstance(output, ExplanationOutput)
    assert output.is_refused


def test_numbers_that_are_none_fail_alone(
    engine: ExplainingEngine, inner: InnerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(request: SequenceRequest) -> SequenceOutput:
        value = float("nan") if "bad" in request.sequence_id else -1.0
        return SequenceOutput(
            request.sequence_id,
            prompt_logprobs=(TokenLogprobs(value),) * 2,
            finish_reason=FinishReason.LENGTH,
        )

    monkeypatch.setattr(inner, "_output", output)
    engine.add(ask("bad"))
    engine.add(ask("good"))
    found = drain(engine)
    assert found["bad"].error == "the explanation's numbers were not finite"
    assert found["good"].attributions[0].scores == (0.0, 0.0, 0.0)


class Passes:
    """Stands for the passes by gradients: each takes as long as a test says."""

    def __init__(self, clock: Clock, seconds: float, holds: Sequence[bool]) -> None:
        self.made: list[str] = []
        self.closed = 0
        self._clock, self._seconds, self._holds = clock, seconds, holds

    def __call__(self, model: Any, task: Any, *_: Any) -> Generator[bool, None, Found]:
        try:
            for holds in self._holds:
                self._clock.now += self._seconds
                self.made.append(str(model))
                yield holds
        finally:
            self.closed += 1
        return Found([(1.0, 2.0, 3.0)] * 2, (-1.0, -2.0), [])


class Model(str):
    """Stands for a model whose passes run to their ends."""

    def in_turns(self, passes: Any, seconds: Any) -> Any:
        return passes


class Source:
    """Has a model as soon as a test says so."""

    def __init__(self) -> None:
        self.model: Any = None
        self.waits = 0
        self.releases = 0

    def get(self) -> Any:
        return self.model

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.model = self.model or Model("model")

    def release(self) -> None:
        self.releases += 1


def test_gradients_wait_for_weights_and_let_others_run_meanwhile(
    inner: InnerEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, passes = Source(), Passes(clock, 0.001, [True, False] * 3)
    monkeypatch.setattr(explanation_module, "attribute", passes)
    engine = ExplainingEngine(inner, tuple(Method), make, source, clock)
    engine.add(ask("a", Method.GRADIENT_X_INPUT))
    engine.add(ask("b"))
    found = drain(engine)
    assert list(found) == ["b", "a"]
    assert source.waits == 1
    assert source.releases == 1
    assert found["a"].attributions[1].scores == (1.0, 2.0, 3.0)


def test_a_slice_ends_with_the_pass_in_which_its_time_is_over_and_then_rests(
    inner: InnerEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()
    source.model = Model("model")
    passes = Passes(clock, 0.008, [True] * 8 + [False])
    monkeypatch.setattr(explanation_module, "attribute", passes)
    engine = ExplainingEngine(inner, tuple(Method), make, source, clock)
    engine.add(generation("other"))
    engine.add(ask("a", Method.GRADIENT_X_INPUT))
    counts = []
    for _ in range(30):
        engine.step()
        counts.append(len(passes.made))
    made = [after - before for before, after in zip([0, *counts], counts, strict=False)]
    assert max(made) == 3  # 20 ms, of 8 ms each
    busy = [step for step, count in enumerate(made) if count]
    # 24 ms of explaining are paid by 72 ms of others' steps, of 10 ms each.
    assert all(later - earlier == 8 for earlier, later in pairwise(busy))


def test_a_cancelled_graph_is_let_go_of(
    inner: InnerEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source()
    source.model = Model("model")
    passes = Passes(clock, 1.0, [True] * 100)
    monkeypatch.setattr(explanation_module, "attribute", passes)
    engine = ExplainingEngine(inner, tuple(Method), make, source, clock)
    engine.add(ask("a", Method.GRADIENT_X_INPUT))
    engine.step()
    engine.step()
    engine.cancel("a")
    assert passes.closed == 1
    assert not engine.has_unfinished


def test_one_graph_is_held_at_a_time(
    inner: InnerEngine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: set[int] = set()
    most = 0

    def passes(model: Any, task: Any, *_: Any) -> Generator[bool, None, Found]:
        nonlocal most
        for _ in range(4):
            for holds in (True, True, False):
                clock.now += 1.0
                (held.add if holds else held.discard)(id(task))
                most = max(most, len(held))
                yield holds
        return Found([(0.0, 0.0, 0.0)] * 2, (-1.0, -1.0), [])

    source = Source()
    source.model = Model("model")
    monkeypatch.setattr(explanation_module, "attribute", passes)
    engine = ExplainingEngine(inner, tuple(Method), make, source, clock)
    for name in "abc":
        engine.add(ask(name, Method.GRADIENT_X_INPUT))
    assert set(drain(engine)) == {"a", "b", "c"}
    assert most == 1


def test_the_pace_pays_for_what_was_spent() -> None:
    pace = Pace()
    assert pace.slice_seconds(others_run=True) > 0
    pace.spent(0.02)
    assert pace.slice_seconds(others_run=True) == 0
    pace.others_ran(0.05)
    assert pace.slice_seconds(others_run=True) == 0
    pace.others_ran(0.02)
    assert pace.slice_seconds(others_run=True) > 0
    pace.spent(5.0)
    assert pace.slice_seconds(others_run=False) > 0  # nobody is there to be paid


def test_a_copy_is_loaded_once_and_dropped_when_it_rests() -> None:
    made: list[object] = []

    def load() -> Any:
        made.append(nn.Linear(1, 1))
        return made[-1]

    source = CopiedModel(load, keep_seconds=0.0)
    assert source.get() is None
    source.wait(10)
    assert source.get() is made[0]
    source.release()
    timer = source._timer
    if timer is not None:
        timer.join()
    assert source.get() is None
    source.wait(10)
    assert source.get() is made[1]


def test_weights_that_cannot_be_loaded_are_a_refusal_and_tried_again() -> None:
    faults = iter([RefusedError("too large"), torch.OutOfMemoryError("no")])

    def load() -> Any:
        raise next(faults)

    source = CopiedModel(load)
    for words in ("too large", "cannot be loaded"):
        assert source.get() is None
        source.wait(10)
        with pytest.raises(RefusedError, match=words):
            source.get()
