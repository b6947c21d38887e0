"""The form in which a step of the engine goes to its worker."""

from __future__ import annotations

import pickle
from multiprocessing import Pipe

import pytest

from miao_worker.engine.encoder.types import EncodingOutput
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SequenceOutput,
    StepOutput,
    TokenLogprobs,
)
from miao_worker.engine_host import Step
from miao_worker.readiness import Readiness

PLAIN = (SequenceOutput("a", (1,)), SequenceOutput("b", (2,)))
OTHERS = (
    SequenceOutput("c", (3,), finish_reason=FinishReason.STOP),
    SequenceOutput("d", (4,), (TokenLogprobs(-1.0),)),
    SequenceOutput("e", (5,), num_cached_tokens=0),
    SequenceOutput("f", (6, 7)),
    SequenceOutput("g", (), finish_reason=FinishReason.ERROR, error="no"),
    SequenceOutput("h", prompt_logprobs=(TokenLogprobs(-2.0),)),
    EncodingOutput("i", finish_reason=FinishReason.STOP, rows=(b"1234",)),
)


@pytest.mark.parametrize("outputs", [(), PLAIN, OTHERS, (OTHERS[0], *PLAIN, *OTHERS[1:])])
def test_a_step_arrives_as_the_engine_said_it(outputs: tuple[SequenceOutput, ...]) -> None:
    stats = EngineStats(num_running=3, num_steps=9)
    sent = pickle.loads(pickle.dumps(Step.of(StepOutput(outputs, stats), 0.5)))
    got = sent.output()
    key = {output.sequence_id: output for output in outputs}
    assert {output.sequence_id: output for output in got.outputs} == key
    assert len(got.outputs) == len(outputs)
    assert (got.stats, got.seconds) == (stats, 0.5)


def test_a_pipe_is_ready_when_it_has_something_and_when_its_other_end_is_gone() -> None:
    ours, theirs = Pipe()
    readiness = Readiness(ours)
    assert not readiness.wait(0)
    theirs.send("a")
    assert readiness.wait(0)
    assert readiness.wait(None)
    assert ours.recv() == "a"
    assert not readiness.wait(0.001)
    theirs.close()
    assert readiness.wait(0)
    with pytest.raises(EOFError):
        ours.recv()
    ours.close()
