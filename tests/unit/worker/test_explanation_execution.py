"""A claimed job that explains: what the engine is asked, and the entry that answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.worker.test_execution import claim
from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import EncoderInput, ExplanationEntry, Job
from miao.internal.v1.queue_pb2 import Explanation as Asked
from miao.v1 import explanation_pb2 as explanation
from miao.v1 import generation_pb2 as pb
from miao_queue import events
from miao_worker.attempt import FAILED_PRECONDITION, INTERNAL
from miao_worker.bundled import bundled_model_path
from miao_worker.engine.explain.types import (
    Attribution,
    ExplanationOutput,
    LabelTarget,
    Method,
    OutputTarget,
)
from miao_worker.engine.types import FinishReason, TokenLogprobs
from miao_worker.explanation_execution import ExplanationExecution

TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))
PROMPT = TOKENIZER.encode("<|im_start|>机 fox 𨭎").ids  # the last is four tokens, of a byte each
WHOLE = explanation.EXPLAIN_METHOD_INTEGRATED_GRADIENTS


def execution(prompt: list[int], **asked: Any) -> ExplanationExecution:
    job = Job(prompt_token_ids=prompt, explanation=Asked(**asked))
    return ExplanationExecution(replace(claim(), job=job), TOKENIZER, "an-adapter")


def bring(subject: ExplanationExecution, **output: Any) -> ExplanationEntry:
    """The terminal entry after the engine has brought that."""
    reason = FinishReason.ERROR if "error" in output else FinishReason.STOP
    answer = subject.answers[0]
    subject.advance([(answer, ExplanationOutput("s", finish_reason=reason, **output))], 0)
    assert subject.end is not None
    return ExplanationEntry.FromString(subject.terminal_event(subject.end))


def test_the_engine_is_asked_for_all_of_it() -> None:
    subject = execution(
        PROMPT, method=WHOLE, steps=9, max_tokens=4, stop_token_ids=[1], num_candidates=2,
        positions=[0, 2], whole_output=True,
    )  # fmt: skip
    subject.claim.job.cache_scope = b"a tenant's"
    request = subject.request(subject.answers[0])
    assert request.token_ids == tuple(PROMPT)
    assert request.places == tuple(range(len(PROMPT)))
    assert (request.method, request.steps) == (Method.INTEGRATED_GRADIENTS, 9)
    assert request.target == OutputTarget(
        (), 4, frozenset({1}), 2, (0, 2), True, "an-adapter", b"a tenant's"
    )


def test_a_label_is_asked_of_what_is_text() -> None:
    subject = execution(
        [],
        method=explanation.EXPLAIN_METHOD_LEAVE_ONE_OUT,
        input=EncoderInput(token_ids=[1, 2, 3], type_ids=[0, 0, 1]),
        places=[1],
        label=2,
    )
    request = subject.request(subject.answers[0])
    assert (request.token_ids, request.places) == ((1, 2, 3), (1,))
    assert request.target == LabelTarget(2, (0, 0, 1))


def test_the_answer_has_each_tokens_text_and_is_an_event_too() -> None:
    subject = execution(PROMPT, method=WHOLE, max_tokens=4)
    entry = bring(
        subject,
        token_ids=(PROMPT[-1], 5),
        logprobs=(TokenLogprobs(-1.0, ((5, -0.5),)), TokenLogprobs(-2.0)),
        attributions=(
            Attribution(0, (0.5,) * len(PROMPT), -1.0, -3.0),
            Attribution(None, (0.5,) * len(PROMPT), -1.0),
        ),
    )
    result = entry.result
    assert "".join(result.input_texts) == "<|im_start|>机 fox 𨭎"
    assert result.input_texts[0] == "<|im_start|>"
    assert list(result.input_texts[-4:-1]) == ["", "", ""]
    assert [token.token_id for token in result.output] == [PROMPT[-1], 5]
    assert result.output[0].candidates[0].logprob == -0.5
    first, whole = result.attributions
    assert (first.output_index, first.baseline_value) == (0, -3.0)
    assert first.delta == pytest.approx(0.5 * len(PROMPT) - 2.0)
    assert whole.whole_output
    assert not whole.HasField("delta")
    event = events.decode(entry.SerializeToString())
    assert event.finished.reason == pb.FINISH_REASON_STOP
    assert subject.num_output_tokens == 2


@pytest.mark.parametrize(("is_refused", "code"), [(True, FAILED_PRECONDITION), (False, INTERNAL)])
def test_a_refusal_is_told_from_a_fault(is_refused: bool, code: int) -> None:
    subject = execution(PROMPT, method=WHOLE, max_tokens=4)
    entry = bring(subject, error="no memory", is_refused=is_refused)
    error = entry.event.finished.error
    assert (error.code, error.message) == (code, "no memory")
    assert not entry.HasField("result")


def test_a_way_of_a_later_front_fails_at_once() -> None:
    subject = execution(PROMPT, method=99, max_tokens=4)
    assert subject.end is not None
    assert subject.end.error.code == INTERNAL
