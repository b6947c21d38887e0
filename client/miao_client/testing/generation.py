"""A scripted generation as it runs: a thread writes its journal, calls read it."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import grpc

from miao.v1 import generation_pb2 as pb
from miao_client.results import FinishReason
from miao_client.testing import refusals
from miao_client.testing.steps import Cut, End, Fail, Pause, Say, Step, Wait

NUM_PROMPT_TOKENS = 3
_REASONS: dict[FinishReason, Any] = {
    reason: pb.FinishReason.Value(f"FINISH_REASON_{reason.name}") for reason in FinishReason
}


class FakeGeneration:
    """Keeps what was said, so that any number of calls may follow it from any token on."""

    def __init__(self, generation_id: str, request: Any, model: str, steps: Sequence[Step]) -> None:
        self.id = generation_id
        self.spec = request.spec
        self.request_id = request.request_id
        self._model = model
        self._steps = steps
        self._changed = threading.Condition()
        self._journal: list[pb.GenerationEvent | Cut] = [self._accepted()]
        self._num_tokens = 0
        self._digest = 0
        self._output_tokens: dict[int, int] = {}
        self._cancelled = False
        self._ended = False
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled before its end."""
        return self._cancelled

    def cancel(self) -> None:
        """End it, unless it has ended."""
        with self._changed:
            self._cancelled = self._cancelled or not self._ended
            self._changed.notify_all()

    def wait(self, seconds: float = 10.0) -> None:
        """Wait for its end; TimeoutError if it does not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._ended, seconds):
                raise TimeoutError(f"generation {self.id} has not ended")

    def events(self, after: int, is_read: Callable[[], bool]) -> Iterator[pb.GenerationEvent]:
        """What comes behind so many tokens, to the end or for as long as somebody reads."""
        for place in count():
            event = self._event(place, is_read)
            if event is None:
                return
            if isinstance(event, Cut):
                raise refusals.broken()
            if event.HasField("accepted") and after:
                continue
            if event.HasField("finished") or event.sequence_number > after or not after:
                yield event
            if event.HasField("finished"):
                return

    def message(self, include_output: bool) -> pb.Generation:
        """It as a resource."""
        with self._changed:
            events = [each for each in self._journal if isinstance(each, pb.GenerationEvent)]
        state = pb.GENERATION_STATE_FINISHED if self._ended else pb.GENERATION_STATE_RUNNING
        message = pb.Generation(
            generation_id=self.id,
            request_id=self.request_id,
            model=self._model,
            state=state,
            attempt=1,
            accept_time=events[0].accepted.accept_time,
            sequence_number=self._num_tokens,
        )
        if events[-1].HasField("finished"):
            message.finished.CopyFrom(events[-1].finished)
        if include_output:
            said = [each.tokens for each in events if each.HasField("tokens")]
            first = [tokens for tokens in said if tokens.answer_index == 0]
            message.output.text = "".join(tokens.text for tokens in first)
            message.output.token_ids.extend(each for tokens in first for each in tokens.token_ids)
        return message

    def _event(self, place: int, is_read: Callable[[], bool]) -> pb.GenerationEvent | Cut | None:
        with self._changed:
            while len(self._journal) <= place:
                if not is_read():
                    return None
                self._changed.wait(0.05)
            event = self._journal[place]
            if isinstance(event, Cut):
                del self._journal[place]  # whoever comes next reads on
            return event

    def _run(self) -> None:
        for step in self._steps:
            self._sleep_through(step)
            if self._cancelled or self._ended:
                break
            match step:
                case str():
                    self._say(Say(step))
                case Say():
                    self._say(step)
                case Cut():
                    self._append(step)
                case Fail() | End():
                    self._finish(step)
        if not self._ended:
            cancelled = End(FinishReason.CANCELLED)
            self._finish(cancelled if self._cancelled else End())

    def _sleep_through(self, step: Step) -> None:
        with self._changed:
            match step:
                case Pause(seconds):
                    self._changed.wait_for(lambda: self._cancelled, seconds)
                case Wait(event):
                    self._changed.wait_for(lambda: self._cancelled, 0)
                    while not (self._cancelled or event.is_set()):
                        self._changed.wait(0.01)

    def _say(self, step: Say) -> None:
        answers = range(max(self.spec.n, 1)) if step.answer is None else [step.answer]
        for answer in answers:
            self._num_tokens += 1
            token_id = self._num_tokens
            self._digest = zlib.crc32(token_id.to_bytes(4, "little"), self._digest)
            self._output_tokens[answer] = self._output_tokens.get(answer, 0) + 1
            tokens = pb.Tokens(text=step.text, token_ids=[token_id], answer_index=answer)
            self._add_parts(tokens, step)
            self._add_logprobs(tokens, step)
            self._append(self._numbered(tokens=tokens, output_digest=self._digest))

    def _add_parts(self, tokens: pb.Tokens, step: Say) -> None:
        if step.reasoning:
            tokens.parts.add(reasoning=step.reasoning)
        if (call := step.call) is not None:
            delta = pb.ToolCallDelta(
                index=call.index, id=call.id, name=call.name, arguments_json=call.arguments_json
            )
            tokens.parts.add(tool_call=delta)

    def _add_logprobs(self, tokens: pb.Tokens, step: Say) -> None:
        if not self.spec.HasField("logprobs"):
            return
        entry = tokens.logprobs.add(logprob=step.logprob)
        likeliest = {step.text: step.logprob} if step.top is None else step.top
        for text, logprob in list(likeliest.items())[: self.spec.logprobs]:
            own = text == step.text
            entry.top.add(token_id=self._num_tokens if own else 0, logprob=logprob, text=text)

    def _finish(self, step: Fail | End) -> None:
        finished = pb.Finished(
            usage=pb.Usage(
                prompt_tokens=NUM_PROMPT_TOKENS, output_tokens=sum(self._output_tokens.values())
            )
        )
        if isinstance(step, Fail):
            finished.reason = pb.FINISH_REASON_ERROR
            finished.error.code = grpc.StatusCode[step.code].value[0]
            finished.error.message = step.message
        else:
            finished.reason = _REASONS[step.reason]
            if step.stopped_by is not None:
                finished.stop = step.stopped_by
        if self.spec.n > 1:
            for answer in range(self.spec.n):
                finished.answers.add(
                    reason=finished.reason,
                    output_tokens=self._output_tokens.get(answer, 0),
                    seed=answer,
                )
        finished.timings.total.FromMilliseconds(1)
        self._ended = True
        self._append(self._numbered(finished=finished))

    def _accepted(self) -> pb.GenerationEvent:
        accepted = pb.Accepted(
            generation_id=self.id,
            request_id=self.request_id,
            model=self._model,
            num_prompt_tokens=NUM_PROMPT_TOKENS,
            seed=self.spec.sampling.seed,
            max_tokens=self.spec.max_tokens or 512,
        )
        accepted.accept_time.GetCurrentTime()
        return pb.GenerationEvent(accepted=accepted)

    def _numbered(self, **fields: Any) -> pb.GenerationEvent:
        return pb.GenerationEvent(sequence_number=self._num_tokens, attempt=1, **fields)

    def _append(self, event: pb.GenerationEvent | Cut) -> None:
        with self._changed:
            self._journal.append(event)
            self._changed.notify_all()
