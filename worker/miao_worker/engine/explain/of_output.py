"""What carried the output of a model that generates."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items

from miao_worker.engine.encoder.types import EncodingRequest
from miao_worker.engine.explain.explanation import Explanation
from miao_worker.engine.explain.gradients import GradientTask, OutputValues
from miao_worker.engine.explain.types import (
    MAX_OUTPUT_TOKENS,
    MAX_TOKENS,
    Attribution,
    ExplanationOutput,
    ExplanationRequest,
    OutputTarget,
)
from miao_worker.engine.types import (
    FinishReason,
    SamplingParams,
    SequenceOutput,
    SequenceRequest,
    TokenLogprobs,
)


class OutputExplanation(Explanation):
    """Generates the output, or scores the one that is given; then looks at the input."""

    def __init__(self, request: ExplanationRequest, target: OutputTarget) -> None:
        super().__init__(request)
        self._target = target
        self._output_ids: list[int] = list(target.token_ids)
        self._logprobs: list[TokenLogprobs] = []
        self._coming: dict[str, list[float]] = {}  # of inputs without a token, as far as they are
        most = len(target.token_ids) or target.max_tokens
        if not 0 < most <= MAX_OUTPUT_TOKENS:
            self.fail(f"there are {most} tokens of output, not 1 to {MAX_OUTPUT_TOKENS}")
        elif len(request.token_ids) + most > MAX_TOKENS:
            self.fail(f"input and output have more than {MAX_TOKENS} tokens")

    def gradient_task(self) -> GradientTask:
        return GradientTask(
            token_ids=(*self.request.token_ids, *self._output_ids[:-1]),
            type_ids=(),
            places=self.request.places,
            num_input_tokens=len(self.request.token_ids),
            values=OutputValues(tuple(self._output_ids), self._chosen(), self._target.is_whole),
        )

    def _saying(self, name: str) -> SequenceRequest | EncodingRequest:
        if self._target.token_ids:
            return self._scoring(name, self.request.token_ids, self._target.num_candidates)
        return SequenceRequest(
            name,
            self.request.token_ids,
            SamplingParams(
                max_tokens=self._target.max_tokens,
                seed=0,
                temperature=0.0,
                stop_token_ids=self._target.stop_token_ids,
                num_logprobs=self._target.num_candidates,
            ),
            adapter=self._target.adapter,
            cache_scope=self._target.cache_scope,
        )

    def _take_said(self, output: SequenceOutput) -> None:
        self._output_ids += output.token_ids
        self._logprobs += output.logprobs or ()
        self._logprobs += output.prompt_logprobs
        if output.finish_reason is None:
            return
        if not self._chosen():
            self.fail("none of the positions is within the output", is_refused=True)
        elif not self.request.method.needs_gradients:
            self.leave_out_all()

    def _leaving_out(self, place: int, name: str) -> SequenceRequest | EncodingRequest:
        left = self.request.token_ids[:place] + self.request.token_ids[place + 1 :]
        return self._scoring(name, left, 0)

    def _take_without(self, output: SequenceOutput) -> tuple[float, ...] | None:
        coming = self._coming.setdefault(output.sequence_id, [])
        coming += [each.logprob for each in output.prompt_logprobs]
        if output.finish_reason is None:
            return None
        return self._of_things(self._coming.pop(output.sequence_id))

    def _values(self) -> tuple[float, ...]:
        return self._of_things([each.logprob for each in self._logprobs])

    def _positions(self) -> tuple[int | None, ...]:
        return (None,) if self._target.is_whole else self._chosen()

    def _answer(self, attributions: tuple[Attribution, ...]) -> ExplanationOutput:
        return ExplanationOutput(
            self.request.sequence_id,
            token_ids=tuple(self._output_ids),
            logprobs=tuple(self._logprobs),
            finish_reason=FinishReason.STOP,
            attributions=attributions,
        )

    def _scoring(
        self, name: str, input_ids: tuple[int, ...], num_candidates: int
    ) -> SequenceRequest:
        """The output's log-probabilities behind an input."""
        sampling = SamplingParams(max_tokens=0, seed=0, num_prompt_logprobs=num_candidates)
        return SequenceRequest(
            name,
            (*input_ids, *self._output_ids),
            sampling,
            score_from=len(input_ids),
            adapter=self._target.adapter,
            cache_scope=self._target.cache_scope,
        )

    def _chosen(self) -> tuple[int, ...]:
        """The places of the output that are explained."""
        end = len(self._output_ids)
        return tuple(at for at in self._target.positions or range(end) if at < end)

    def _of_things(self, logprobs: Items[float]) -> tuple[float, ...]:
        chosen = [logprobs[at] for at in self._chosen()]
        return (math.fsum(chosen),) if self._target.is_whole else tuple(chosen)
