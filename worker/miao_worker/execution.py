"""One claimed generation while this worker runs it."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from miao.v1 import generation_pb2 as pb
from miao.v1.generation_service_pb2 import GenerateResponse
from miao_queue import events
from miao_queue.claims import Claim, Entry
from miao_worker.answer import Answer
from miao_worker.attempt import INTERNAL, Attempt
from miao_worker.engine.types import FinishReason, SamplingParams, SequenceOutput, SequenceRequest
from miao_worker.prompt_echo import PromptEcho
from miao_worker.ranking import best_answers
from miao_worker.token_messages import TokenText

_MAX_EVENT_TOKENS = 256


class Execution(Attempt[Answer]):
    """A claim, its answers so far, and the entries that the journal should hold.

    The journal holds the echoed prompt, then the answers' tokens in turns: the
    next is said by the answer that has said the fewest, of those that have not
    ended, the first of equals. So the order follows from the tokens alone, and an
    answer that is ahead in the engine waits for the others.
    """

    def __init__(
        self,
        claim: Claim,
        tokenizer: Tokenizer,
        token_text: TokenText,
        adapter: str | None = None,
    ) -> None:
        """`adapter`: the id of the one that it runs with."""
        super().__init__(claim)
        job = claim.job
        self._adapter = adapter
        self._digest = 0
        self._echo = PromptEcho(job, tokenizer, token_text)
        count = max(1, job.num_answers)
        self.answers = [Answer(job, index, tokenizer, token_text) for index in range(count)]
        for entry in claim.entries:
            self._replay(entry)
        if self._echo.is_complete:
            for answer in self.answers:
                answer.find_end()
        self._find_end()

    @property
    def num_output_tokens(self) -> int:
        """Tokens of all answers together."""
        return sum(len(answer.token_ids) for answer in self.answers)

    def request(self, answer: Answer) -> SequenceRequest:
        """What the engine has to run for an answer, from where that is."""
        job = self.claim.job
        score_from = self._echo.next_score if answer.index == 0 else None
        return SequenceRequest(
            sequence_id=answer.sequence_id,
            prompt_token_ids=tuple(job.prompt_token_ids),
            output_token_ids=tuple(answer.computed_token_ids),
            grammar=job.guide or None,
            adapter=self._adapter,
            tenant=self.claim.record.tenant,
            weight=self.claim.record.weight,
            cache_scope=job.cache_scope,
            sampling=SamplingParams(
                max_tokens=job.max_tokens,
                seed=answer.seed,
                temperature=job.sampling.temperature,
                top_p=job.sampling.top_p,
                top_k=job.sampling.top_k,
                min_p=job.sampling.min_p,
                repetition_penalty=job.sampling.repetition_penalty or 1.0,  # 0: not said
                presence_penalty=job.sampling.presence_penalty,
                frequency_penalty=job.sampling.frequency_penalty,
                logit_bias=tuple(sorted(job.sampling.logit_bias.items())),
                bad_token_ids=tuple(tuple(each.ids) for each in job.bad_token_ids),
                min_tokens=job.min_tokens,
                stop_token_ids=frozenset(job.stop_token_ids),
                num_logprobs=job.logprobs if job.HasField("logprobs") else None,
                num_prompt_logprobs=None if score_from is None else job.prompt_logprobs,
            ),
            score_from=score_from or 1,
        )

    def advance(self, outputs: Sequence[tuple[Answer, SequenceOutput]], now_ms: int) -> list[Entry]:
        """Take what the engine brought; the entries that it makes.

        Sets `end` when the generation is over. An answer that fails ends it all.
        """
        first = len(self.entries)
        if self._takes_at_once(outputs):
            self._say_at_once(*outputs[0])
        else:
            self._take(outputs)
        self._find_end()
        if len(self.entries) > first and self.first_token_ms is None:
            self.first_token_ms = now_ms
        return self.entries[first:]

    def _takes_at_once(self, outputs: Sequence[tuple[Answer, SequenceOutput]]) -> bool:
        """Whether it is a plain token of the one answer, whose turn it always is."""
        if len(outputs) != 1 or len(self.answers) > 1 or not self._echo.is_complete:
            return False
        answer, output = outputs[0]
        return output.is_plain and answer.end is None and not answer.has_ahead

    def _say_at_once(self, answer: Answer, output: SequenceOutput) -> None:
        draft = GenerateResponse()
        answer.say_next(output.token_ids[0], draft.event.tokens)
        self._write(draft)

    def _take(self, outputs: Sequence[tuple[Answer, SequenceOutput]]) -> None:
        failed: tuple[Answer, SequenceOutput] | None = None
        for answer, output in outputs:
            if output.num_cached_tokens is not None and answer.index == 0:
                self.cached_prompt_tokens = output.num_cached_tokens
            if output.finish_reason is FinishReason.ERROR:
                failed = answer, output
            self._echo.bring(output.prompt_logprobs)
            answer.bring(output)
        draft = self._say_all()
        if failed is not None and self.end is None:
            self._fail(*failed, draft.event.tokens)
        self._write(draft)

    def entries_from(self, tokens: int) -> list[Entry]:
        """The entries that a journal which ends after so many tokens lacks."""
        missing = [entry for entry in self.entries if entry.last > tokens]
        if missing and missing[0].first < tokens:
            rest = events.after(missing[0].payload, tokens)
            assert rest is not None
            missing[0] = Entry(tokens, missing[0].last, rest)
        return missing

    def end_early(self, reason: pb.FinishReason) -> None:
        """End before the answers do."""
        self.end = pb.Finished(reason=reason, answers=self._answer_ends(reason))

    def terminal_event(self, finished: pb.Finished) -> bytes:
        """The end, behind the last token."""
        return events.finished(self.num_tokens, self.claim.record.attempt, finished)

    def _say_all(self) -> GenerateResponse:
        """Write what can be said now; returns the last event, which is not written yet."""
        draft = GenerateResponse()
        while self._echo.has_ahead:
            draft = self._room(draft, is_prompt=True)
            self._echo.say(draft.event.tokens)
        while (answer := self._next()) is not None and answer.has_ahead:
            draft = self._room(draft, answer_index=answer.index)
            answer.say(draft.event.tokens)
        return draft

    def _next(self) -> Answer | None:
        """Whose turn it is; None where all have ended, or the prompt is not said yet."""
        if not self._echo.is_complete:
            return None
        speaking = [answer for answer in self.answers if answer.end is None]
        return min(speaking, key=lambda answer: len(answer.token_ids), default=None)

    def _room(
        self, draft: GenerateResponse, *, answer_index: int = 0, is_prompt: bool = False
    ) -> GenerateResponse:
        """The event itself where another token of its kind fits, else an empty one."""
        event = draft.event.tokens
        is_same = event.answer_index == answer_index and event.is_prompt == is_prompt
        if event.token_ids and is_same and len(event.token_ids) < _MAX_EVENT_TOKENS:
            return draft
        self._write(draft)
        empty = GenerateResponse()
        empty.event.tokens.answer_index = answer_index
        empty.event.tokens.is_prompt = is_prompt
        return empty

    def _write(self, draft: GenerateResponse) -> None:
        """Make an entry of an event, unless it is empty."""
        event = draft.event.tokens
        token_ids = event.token_ids
        if not token_ids:
            return
        if len(token_ids) == 1:
            del event.text_lengths[:]
        first, attempt = self.num_tokens, self.claim.record.attempt
        self.num_tokens = last = first + len(token_ids)
        self._digest = events.digest(token_ids, self._digest)
        payload = events.seal(draft, last, attempt, self._digest)
        self.entries.append(Entry(first, last, payload))

    def _fail(self, answer: Answer, output: SequenceOutput, event: pb.Tokens) -> None:
        if event.answer_index == answer.index and not event.is_prompt:
            answer.flush(event)
        self.fail(INTERNAL, output.error or "the engine could not continue this generation")

    def _find_end(self) -> None:
        """The generation is over when all of its answers are."""
        if self.end is not None or self.answers[0].end is None:
            return
        if any(answer.end is None for answer in self.answers):
            return
        best = best_answers(self.claim.job, self.answers)
        chosen = self.answers[best[0] if best else 0].end
        assert chosen is not None
        self.end = pb.Finished(best=best, answers=self._answer_ends(chosen.reason))
        self.end.MergeFrom(chosen)

    def _answer_ends(self, reason: pb.FinishReason) -> list[pb.AnswerEnd]:
        """How each of several answers ended: for this reason, unless by itself."""
        job = self.claim.job
        if len(self.answers) == 1 and not job.num_best:
            return []
        return [answer.end_message(reason, ranked=job.num_best > 0) for answer in self.answers]

    def _replay(self, entry: Entry) -> None:
        """Bring the answers to where the earlier attempt left them."""
        self.entries.append(entry)
        tokens = events.decode(entry.payload).tokens
        self.num_tokens = entry.last
        self._digest = events.digest(tokens.token_ids, self._digest)
        if tokens.is_prompt:
            self._echo.replay(tokens)
        else:
            self.answers[tokens.answer_index].replay(tokens)
