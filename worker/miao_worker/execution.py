"""One claimed generation while this worker runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from miao.v1 import generation_pb2 as pb
from miao_queue import events
from miao_queue.claims import Claim, Crashes, Entry
from miao_worker.detokenizer import Detokenizer, StopTexts
from miao_worker.engine.types import (
    FinishReason,
    SamplingParams,
    SequenceOutput,
    SequenceRequest,
    TokenLogprobs,
)

TokenText = Callable[[int], str]

FAILED_PRECONDITION, INTERNAL = 9, 13  # google.rpc.Code

_REASONS = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


class Execution:
    """A claim, the tokens so far, and the entries that the journal should hold.

    Entries are kept until the end, so that a journal which lost its tail can be
    written again.
    """

    def __init__(self, claim: Claim, tokenizer: Tokenizer, token_text: TokenText) -> None:
        self.claim = claim
        self.entries: list[Entry] = []
        self.token_ids: list[int] = []
        self.end: pb.Finished | None = None  # reason, stopped_by and error alone
        self.sequence_id = ""  # in the engine; another for each stay there
        self.num_steps = 0  # in this stay
        record = claim.record
        self.crashes = Crashes(record.crashes, record.crashed_alone)
        self.cached_prompt_tokens = 0
        self.first_token_ms = claim.record.first_token_ms
        self._digest = 0
        self._token_text = token_text
        self._detokenizer = Detokenizer(tokenizer, claim.job.prompt_token_ids)
        self._stops = StopTexts(claim.job.stop)
        for entry in claim.entries:
            self._replay(entry)
        self._find_end_in_journal()

    @property
    def generation_id(self) -> str:
        return self.claim.record.generation_id

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    def request(self) -> SequenceRequest:
        """What the engine has to run, from where the journal ends."""
        job = self.claim.job
        return SequenceRequest(
            sequence_id=self.sequence_id,
            prompt_token_ids=tuple(job.prompt_token_ids),
            output_token_ids=tuple(self.token_ids),
            sampling=SamplingParams(
                max_tokens=job.max_tokens,
                seed=job.sampling.seed,
                temperature=job.sampling.temperature,
                top_p=job.sampling.top_p,
                top_k=job.sampling.top_k,
                min_p=job.sampling.min_p,
                repetition_penalty=job.sampling.repetition_penalty or 1.0,  # 0: not said
                presence_penalty=job.sampling.presence_penalty,
                frequency_penalty=job.sampling.frequency_penalty,
                logit_bias=tuple(sorted(job.sampling.logit_bias.items())),
                min_tokens=job.min_tokens,
                stop_token_ids=frozenset(job.stop_token_ids),
                num_logprobs=job.logprobs if job.HasField("logprobs") else None,
            ),
        )

    def advance(self, outputs: Sequence[SequenceOutput], now_ms: int) -> Entry | None:
        """Take what the engine brought; the entry that it makes, if it has tokens.

        Sets `end` when the generation is over.
        """
        first = self.num_tokens
        event = pb.Tokens()
        for output in outputs:
            if self.end is None:
                self._take(output, event)
        if self.end is not None and self.end.WhichOneof("stopped_by") != "stop":
            self._add_text(event, self._detokenizer.flush())
        if self.num_tokens == first:
            return None
        if self.first_token_ms is None:
            self.first_token_ms = now_ms
        if len(event.token_ids) == 1:
            del event.text_lengths[:]
        self._digest = events.digest(event.token_ids, self._digest)
        attempt = self.claim.record.attempt
        payload = events.tokens(self.num_tokens, attempt, event, self._digest)
        entry = Entry(first, self.num_tokens, payload)
        self.entries.append(entry)
        return entry

    def entries_from(self, tokens: int) -> list[Entry]:
        """The entries that a journal which ends after so many tokens lacks."""
        missing = [entry for entry in self.entries if entry.last > tokens]
        if missing and missing[0].first < tokens:
            rest = events.after(missing[0].payload, tokens)
            assert rest is not None
            missing[0] = Entry(tokens, missing[0].last, rest)
        return missing

    def fail(self, code: int, message: str) -> None:
        """End with an error; the message is for the caller."""
        self.end = pb.Finished(
            reason=pb.FINISH_REASON_ERROR, error=pb.GenerationError(code=code, message=message)
        )

    def _take(self, output: SequenceOutput, event: pb.Tokens) -> None:
        if output.num_cached_tokens is not None:
            self.cached_prompt_tokens = output.num_cached_tokens
        logprobs: Sequence[TokenLogprobs | None] = output.logprobs or [None] * len(output.token_ids)
        for token_id, logprob in zip(output.token_ids, logprobs, strict=True):
            self._take_token(token_id, logprob, event)
            if self.end is not None:
                return
        if output.finish_reason is FinishReason.ERROR:
            self.fail(INTERNAL, output.error or "the engine could not continue this generation")
        elif output.finish_reason is not None:
            self._end_by_engine(output.finish_reason)

    def _take_token(self, token_id: int, logprob: TokenLogprobs | None, event: pb.Tokens) -> None:
        piece = self._push(token_id)
        event.token_ids.append(token_id)
        event.text += piece
        event.text_lengths.append(len(piece))
        if logprob is not None:
            event.logprobs.append(self._logprobs_message(logprob))

    def _push(self, token_id: int) -> str:
        self.token_ids.append(token_id)
        text = self._detokenizer.push(token_id)
        if self.num_tokens <= self.claim.job.min_tokens:
            return text  # no stop takes effect yet
        piece = self._stops.push(text)
        if piece.stop is not None:
            self.end = pb.Finished(reason=pb.FINISH_REASON_STOP, stop=piece.stop)
        return piece.text

    def _add_text(self, event: pb.Tokens, text: str) -> None:
        piece = self._stops.push(text)
        if piece.stop is not None:
            self.end = pb.Finished(reason=pb.FINISH_REASON_STOP, stop=piece.stop)
        text = piece.text + self._stops.flush()
        if text and event.token_ids:
            event.text += text
            event.text_lengths[-1] += len(text)

    def _end_by_engine(self, reason: FinishReason) -> None:
        self.end = pb.Finished(reason=_REASONS[reason])
        if reason is FinishReason.STOP:
            self.end.stop_token_id = self.token_ids[-1]

    def _replay(self, entry: Entry) -> None:
        """Bring the text state to where the earlier attempt left it."""
        self.entries.append(entry)
        token_ids = events.decode(entry.payload).tokens.token_ids
        self._digest = events.digest(token_ids, self._digest)
        for token_id in token_ids:
            self._push(token_id)

    def _find_end_in_journal(self) -> None:
        """An earlier attempt may have written the last token and not the end."""
        if self.end is not None or not self.token_ids:
            return
        if self.token_ids[-1] in self.claim.job.stop_token_ids:
            self._end_by_engine(FinishReason.STOP)
        elif self.num_tokens >= self.claim.job.max_tokens:
            self._end_by_engine(FinishReason.LENGTH)

    def _logprobs_message(self, logprobs: TokenLogprobs) -> pb.TokenLogprobs:
        top = [
            pb.TopLogprob(token_id=token_id, logprob=logprob, text=self._token_text(token_id))
            for token_id, logprob in logprobs.top
        ]
        return pb.TokenLogprobs(logprob=logprobs.logprob, top=top)
