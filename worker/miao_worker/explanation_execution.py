"""One claimed job that explains an answer, while this worker runs it."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import ExplanationEntry, ExplanationResult
from miao.v1 import explanation_pb2 as explanation
from miao.v1 import generation_pb2 as pb
from miao_queue.claims import Claim
from miao_worker.attempt import FAILED_PRECONDITION, INTERNAL
from miao_worker.detokenizer import Detokenizer
from miao_worker.engine.explain.types import (
    Attribution,
    ExplanationOutput,
    ExplanationRequest,
    LabelTarget,
    Method,
    OutputTarget,
)
from miao_worker.engine.types import SequenceOutput
from miao_worker.single_answer import SingleAnswerAttempt, WholeAnswer
from miao_worker.token_messages import logprobs_message

METHODS = {
    explanation.EXPLAIN_METHOD_LEAVE_ONE_OUT: Method.LEAVE_ONE_OUT,
    explanation.EXPLAIN_METHOD_GRADIENT_X_INPUT: Method.GRADIENT_X_INPUT,
    explanation.EXPLAIN_METHOD_INTEGRATED_GRADIENTS: Method.INTEGRATED_GRADIENTS,
}


class ExplanationExecution(SingleAnswerAttempt[ExplanationOutput]):
    """A claim on a job that explains, and the explanation once there is one."""

    def __init__(self, claim: Claim, tokenizer: Tokenizer, adapter: str | None = None) -> None:
        """`adapter`: the id of the one that the model is made with."""
        super().__init__(claim, ExplanationOutput)
        self._tokenizer = tokenizer
        self._adapter = adapter
        if claim.job.explanation.method not in METHODS:  # of a later version's front
            self.fail(INTERNAL, "the worker does not know this way to explain")

    @property
    def num_output_tokens(self) -> int:
        output = self._answer.output
        return 0 if output is None else len(output.token_ids)

    def request(self, answer: WholeAnswer[ExplanationOutput]) -> ExplanationRequest:
        """What the engine has to run: all of it."""
        job, asked = self.claim.job, self.claim.job.explanation
        token_ids, places = tuple(job.prompt_token_ids), tuple(asked.places)
        target: OutputTarget | LabelTarget
        if asked.HasField("input"):
            token_ids = tuple(asked.input.token_ids)
            label = asked.label if asked.HasField("label") else None
            target = LabelTarget(label, tuple(asked.input.type_ids))
        else:
            places = tuple(range(len(token_ids)))
            target = OutputTarget(
                token_ids=tuple(asked.output_token_ids),
                max_tokens=asked.max_tokens,
                stop_token_ids=frozenset(asked.stop_token_ids),
                num_candidates=asked.num_candidates,
                positions=tuple(asked.positions),
                is_whole=asked.whole_output,
                adapter=self._adapter,
                cache_scope=job.cache_scope,
            )
        return ExplanationRequest(
            answer.sequence_id, token_ids, places, METHODS[asked.method], target, asked.steps
        )

    def terminal_event(self, finished: pb.Finished) -> bytes:
        """The end, and the answer beside it."""
        event = pb.GenerationEvent(attempt=self.claim.record.attempt, finished=finished)
        entry = ExplanationEntry(event=event)
        output = self._answer.output
        if finished.reason == pb.FINISH_REASON_STOP and output is not None:
            entry.result.CopyFrom(self._result(output))
        return entry.SerializeToString()

    def _result(self, output: ExplanationOutput) -> ExplanationResult:
        result = ExplanationResult(
            attributions=[_attribution_message(each) for each in output.attributions],
            label_scores=output.label_scores,
            label=output.label,
        )
        if not output.label_scores:
            job = self.claim.job
            result.input_texts.extend(_texts(self._tokenizer, (), job.prompt_token_ids))
            result.output.extend(self._output_messages(output))
        return result

    def _output_messages(self, output: ExplanationOutput) -> list[explanation.OutputToken]:
        texts = _texts(self._tokenizer, self.claim.job.prompt_token_ids, output.token_ids)
        messages = []
        for token_id, text, said in zip(
            output.token_ids, texts, output.logprobs or (), strict=True
        ):
            likely = logprobs_message(said, self._text_of)
            messages.append(
                explanation.OutputToken(
                    token_id=token_id, text=text, logprob=said.logprob, candidates=likely.top
                )
            )
        return messages

    def _text_of(self, token_id: int) -> str:
        """A token's text by itself; control tokens are shown."""
        return str(self._tokenizer.decode([token_id], skip_special_tokens=False))

    def _code_of(self, output: SequenceOutput) -> int:
        is_refused = isinstance(output, ExplanationOutput) and output.is_refused
        return FAILED_PRECONDITION if is_refused else INTERNAL


def _texts(tokenizer: Tokenizer, before: Sequence[int], token_ids: Sequence[int]) -> list[str]:
    """Each token's share of the text, in which control tokens are shown."""
    added = tokenizer.get_added_tokens_decoder().values()
    detokenizer = Detokenizer(tokenizer, before, shown={token.content for token in added})
    texts = [detokenizer.push(token_id) for token_id in token_ids]
    if texts:
        texts[-1] += detokenizer.flush()
    return texts


def _attribution_message(found: Attribution) -> explanation.Attribution:
    """A label's name, or that it is a label at all, is left to the front."""
    message = explanation.Attribution(
        scores=found.scores,
        value=found.value,
        baseline_value=found.baseline_value,
        delta=found.delta,
    )
    if found.position is None:
        message.whole_output = True
    else:
        message.output_index = found.position
    return message
