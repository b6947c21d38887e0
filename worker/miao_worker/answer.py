"""One answer of a generation: its tokens, their text, and its end.

Knows nothing of journals, and nothing of the generation's other answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_worker.answer_text import AnswerText
from miao_worker.engine.randomness import derived_seed
from miao_worker.engine.types import FinishReason, SequenceOutput, TokenLogprobs
from miao_worker.token_messages import TokenText, logprobs_message

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


@dataclass(frozen=True, slots=True)
class _Brought:
    """A token of the engine's; `reason` where it is the last, or comes without a token."""

    token_id: int | None
    logprobs: TokenLogprobs | None
    reason: FinishReason | None


class Answer:
    """Takes what the engine brings, and says it when its turn has come.

    token_ids: what has been said. What the engine has brought beyond is ahead.
    end: reason and stopped_by, once it has ended.
    sequence_id: in the engine; another for each stay there.
    """

    def __init__(self, job: Job, index: int, tokenizer: Tokenizer, token_text: TokenText) -> None:
        self.index = index
        self.seed = derived_seed(job.sampling.seed, index)
        self.token_ids: list[int] = []
        self.total_logprob = 0.0  # of the tokens that came with theirs
        self.end: pb.Finished | None = None
        self.sequence_id = ""
        self._job = job
        self._min_tokens = job.min_tokens
        self._token_text = token_text
        self._ahead: deque[_Brought] = deque()
        self._text = AnswerText(job, tokenizer, self.seed)

    @property
    def has_ahead(self) -> bool:
        """Whether there is something to say."""
        return bool(self._ahead)

    @property
    def runs(self) -> bool:
        """Whether the engine has more to compute."""
        return self.end is None and not (self._ahead and self._ahead[-1].reason is not None)

    @property
    def computed_token_ids(self) -> list[int]:
        """All that the engine has brought so far."""
        ahead = [brought.token_id for brought in self._ahead if brought.token_id is not None]
        return [*self.token_ids, *ahead]

    def bring(self, output: SequenceOutput) -> None:
        """Keep what a step of the engine brought; an error is the generation's, and not kept."""
        failed = output.finish_reason is FinishReason.ERROR
        reason = None if failed else output.finish_reason
        logprobs: Sequence[TokenLogprobs | None] = output.logprobs or [None] * len(output.token_ids)
        for token_id, logprob in zip(output.token_ids, logprobs, strict=True):
            self._ahead.append(_Brought(token_id, logprob, None))
        if reason is not None:
            last = self._ahead.pop() if self._ahead else _Brought(None, None, None)
            self._ahead.append(replace(last, reason=reason))

    def say(self, event: pb.Tokens) -> None:
        """Add the next token to an event; sets `end` where it is the last."""
        brought = self._ahead.popleft()
        if brought.token_id is not None:
            self._say_token(brought.token_id, brought.logprobs, event)
        if self.end is None and brought.reason is not None:
            self._end_by_engine(brought.reason)
            self.flush(event)
        if self.end is not None:
            self._ahead.clear()

    def say_next(self, token_id: int, event: pb.Tokens) -> None:
        """Bring a plain token and say it at once, where nothing is ahead."""
        self._push(token_id, None, event)

    def flush(self, event: pb.Tokens) -> None:
        """Add the text that was held back to the last token of an event, if it has any."""
        self._text.flush(event)
        self._find_stop()

    def replay(self, tokens: pb.Tokens) -> None:
        """Bring the state to where an earlier attempt left it after this event."""
        for at, token_id in enumerate(tokens.token_ids):
            logprob = tokens.logprobs[at].logprob if tokens.logprobs else None
            self._push(token_id, logprob, pb.Tokens())

    def find_end(self) -> None:
        """An earlier attempt may have written the last token and not the end."""
        if self.end is not None:
            return
        if self.token_ids and self.token_ids[-1] in self._job.stop_token_ids:
            self._end_by_engine(FinishReason.STOP)
        elif len(self.token_ids) >= self._job.max_tokens:
            self._end_by_engine(FinishReason.LENGTH)

    def end_message(self, reason: pb.FinishReason, *, ranked: bool) -> pb.AnswerEnd:
        """How it ended: for this reason, unless by itself before."""
        end = self.end or pb.Finished(reason=reason)
        message = pb.AnswerEnd(reason=end.reason, output_tokens=len(self.token_ids), seed=self.seed)
        match end.WhichOneof("stopped_by"):
            case "stop":
                message.stop = end.stop
            case "stop_token_id":
                message.stop_token_id = end.stop_token_id
        if ranked:
            message.total_logprob = self.total_logprob
        return message

    def _say_token(self, token_id: int, logprobs: TokenLogprobs | None, event: pb.Tokens) -> None:
        self._push(token_id, None if logprobs is None else logprobs.logprob, event)
        if logprobs is not None:
            event.logprobs.append(logprobs_message(logprobs, self._token_text))

    def _push(self, token_id: int, logprob: float | None, event: pb.Tokens) -> None:
        self.token_ids.append(token_id)
        if logprob is not None:
            self.total_logprob += logprob
        event.token_ids.append(token_id)
        # No stop takes effect before min_tokens.
        may_stop = len(self.token_ids) > self._min_tokens
        self._text.push(token_id, event, may_stop=may_stop)
        self._find_stop()

    def _find_stop(self) -> None:
        if self._text.stop is not None:
            self.end = pb.Finished(reason=pb.FINISH_REASON_STOP, stop=self._text.stop)

    def _end_by_engine(self, reason: FinishReason) -> None:
        self.end = pb.Finished(reason=_REASONS[reason])
        if reason is FinishReason.STOP and not self._is_complete:
            self.end.stop_token_id = self.token_ids[-1]

    @property
    def _is_complete(self) -> bool:
        """Whether it was its grammar that ended it, and no token."""
        last = self.token_ids[-1] if self.token_ids else None
        return bool(self._job.guide) and last not in self._job.stop_token_ids
