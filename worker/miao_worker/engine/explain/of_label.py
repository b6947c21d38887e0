"""What carried a label of a model that classifies."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from miao_worker.engine.encoder.activation import Activation, activate
from miao_worker.engine.encoder.types import (
    EncoderInput,
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
)
from miao_worker.engine.explain.explanation import Explanation
from miao_worker.engine.explain.gradients import GradientTask, LabelValue, label_values
from miao_worker.engine.explain.types import (
    Attribution,
    ExplanationOutput,
    ExplanationRequest,
    LabelTarget,
)
from miao_worker.engine.types import FinishReason, SequenceOutput, SequenceRequest


class LabelExplanation(Explanation):
    """Classifies the input, then looks at its tokens."""

    def __init__(
        self,
        request: ExplanationRequest,
        target: LabelTarget,
        activation: Activation,
        num_labels: int,
    ) -> None:
        super().__init__(request)
        self._target = target
        self._activation = activation
        self._label = target.label or 0
        self._scores: tuple[float, ...] = ()
        self._value = 0.0
        if not 0 <= self._label < num_labels:
            self.fail(f"the label's number is {self._label}, not below {num_labels}")

    def gradient_task(self) -> GradientTask:
        return GradientTask(
            token_ids=self.request.token_ids,
            type_ids=self._target.type_ids,
            places=self.request.places,
            num_input_tokens=len(self.request.token_ids),
            values=LabelValue(self._label, self._activation),
        )

    def _saying(self, name: str) -> SequenceRequest | EncodingRequest:
        return self._classifying(name, self.request.token_ids, self._target.type_ids)

    def _take_said(self, output: SequenceOutput) -> None:
        logits = _logits(output)
        scores = activate(logits, self._activation)
        if self._target.label is None:
            self._label = int(scores.argmax())
        self._scores = tuple(scores.tolist())
        self._value = self._value_of(logits)
        if not self.request.method.needs_gradients:
            self.leave_out_all()

    def _leaving_out(self, place: int, name: str) -> SequenceRequest | EncodingRequest:
        tokens, types = self.request.token_ids, self._target.type_ids
        return self._classifying(
            name, tokens[:place] + tokens[place + 1 :], types[:place] + types[place + 1 :]
        )

    def _take_without(self, output: SequenceOutput) -> tuple[float, ...] | None:
        return (self._value_of(_logits(output)),)

    def _values(self) -> tuple[float, ...]:
        return (self._value,)

    def _positions(self) -> tuple[int | None, ...]:
        return (None,)

    def _answer(self, attributions: tuple[Attribution, ...]) -> ExplanationOutput:
        return ExplanationOutput(
            self.request.sequence_id,
            finish_reason=FinishReason.STOP,
            attributions=attributions,
            label_scores=self._scores,
            label=self._label,
        )

    def _classifying(
        self, name: str, token_ids: tuple[int, ...], type_ids: tuple[int, ...]
    ) -> EncodingRequest:
        inputs = (EncoderInput(token_ids, type_ids),)
        return EncodingRequest(name, EncoderTask.CLASSIFY, inputs, raw_scores=True)

    def _value_of(self, logits: Tensor) -> float:
        return float(label_values(logits[None], self._label, self._activation)[0])


def _logits(output: SequenceOutput) -> Tensor:
    assert isinstance(output, EncodingOutput)
    row = output.rows[0]
    return torch.tensor(struct.unpack(f"<{len(row) // 4}f", row))
