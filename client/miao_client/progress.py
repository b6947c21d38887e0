"""What a stream has delivered, whichever connections carried it.

Knows no transport. Events go in as any connection brings them, chunks come out
gapless and without repeats:

    seen = 5        |-- event (3, 5] --|                  dropped: known
                         |-- event (4, 7] --|             trimmed to (5, 7]
                              |-- event (5, 6] --|        delivered
                                    |-- event (7, 8] --|  DataLossError: 6 and 7 are missing

What comes again, since a generation was made again or a connection repeats it,
must be what was delivered: its tokens are compared with those that are held.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from miao.v1 import generation_pb2 as pb
from miao_client import responses
from miao_client.errors import DataLossError, InternalError
from miao_client.results import Accepted, Chunk, Ending, GenerationResult
from miao_client.transcript import Transcript


class Progress:
    """The tokens of one generation from `after` on, as far as they have come."""

    def __init__(self, generation_id: str | None = None, after: int = 0) -> None:
        self.generation_id = generation_id
        self.seen = after  # the last sequence number delivered
        self.digest: int | None = None  # of the output up to there, once the service has said it
        self.accepted: Accepted | None = None
        self.ending: Ending | None = None
        self._after = after
        self._attempts = 0
        self._token_ids: list[int] = []  # of the stream, in its order
        self._transcript = Transcript()

    @property
    def has_begun(self) -> bool:
        """Whether anything has come: then the generation exists, or did."""
        return self.accepted is not None or self.seen > self._after

    def take(self, event: pb.GenerationEvent) -> Chunk | None:
        """Add an event; returns what it brings that is new, if anything.

        Raises:
            DataLossError: Tokens before this event are missing.
            InternalError: The event breaks the contract.
        """
        self._attempts = max(self._attempts, event.attempt)
        match event.WhichOneof("event"):
            case "tokens":
                return self._add(event)
            case "accepted":
                self._accept(event.accepted)
            case "finished":
                self._finish(event)
        return None  # also for kinds added after this SDK

    def result(self) -> GenerationResult:
        """All that has come so far."""
        accepted, ending = self.accepted, self.ending
        answers = self._transcript.answers(ending)
        return GenerationResult(
            text=answers[0].text,
            token_ids=answers[0].token_ids,
            logprobs=answers[0].logprobs,
            finish_reason=ending.reason if ending else None,
            stopped_by=ending.stopped_by if ending else None,
            usage=ending.usage if ending else None,
            timings=ending.timings if ending else None,
            generation_id=self.generation_id,
            request_id=accepted.request_id if accepted else None,
            model=accepted.model if accepted else None,
            seed=accepted.seed if accepted else None,
            attempts=self._attempts,
            answers=answers,
            prompt=self._transcript.prompt(),
            reasoning=answers[0].reasoning,
            tool_calls=answers[0].tool_calls,
            num_dropped_prompt_tokens=accepted.num_dropped_prompt_tokens if accepted else 0,
        )

    def _accept(self, message: pb.Accepted) -> None:
        if self.generation_id not in (None, message.generation_id):
            raise DataLossError(
                f"The service lost generation {self.generation_id} and began another in its place."
            )
        self.generation_id = message.generation_id
        if self.accepted is None:
            self.accepted = responses.accepted(message)

    def _add(self, event: pb.GenerationEvent) -> Chunk | None:
        tokens, last = event.tokens, event.sequence_number
        first = last - len(tokens.token_ids)  # the token before the event
        if not tokens.token_ids and tokens.text:
            raise InternalError("The service sent text without tokens.")
        if first > self.seen:
            raise self._gap(first)
        if first < self.seen:
            self._compare(tokens.token_ids, first)
        if last <= self.seen:
            return None
        chunk = _chunk(event, skip=self.seen - first)
        self.seen = last
        self.digest = event.output_digest or None  # 0: a service that says none
        self._token_ids.extend(chunk.token_ids)
        self._transcript.add(chunk)
        return chunk

    def _compare(self, token_ids: Sequence[int], first: int) -> None:
        """Make sure that what an event repeats is what was delivered."""
        begin = max(first, self._after)
        again = token_ids[begin - first : self.seen - first]
        place = begin - self._after
        if list(again) != self._token_ids[place : place + len(again)]:
            raise DataLossError("The generation was made again, and says something else now.")

    def _finish(self, event: pb.GenerationEvent) -> None:
        if event.sequence_number > self.seen:
            raise self._gap(event.sequence_number)
        if event.sequence_number < self.seen:
            raise DataLossError(
                f"The generation ended after {event.sequence_number} tokens, "
                f"but {self.seen} were delivered."
            )
        self.ending = responses.ending(event.finished)

    def _gap(self, upto: int) -> DataLossError:
        return DataLossError(f"Tokens {self.seen + 1} to {upto} of the stream are missing.")


def _chunk(event: pb.GenerationEvent, skip: int) -> Chunk:
    """The event without its first `skip` tokens and their share of the text."""
    tokens = event.tokens
    shares = _shares(tokens)
    if skip and not shares:
        raise InternalError("The service sent text that cannot be divided among its tokens.")
    text = "".join(shares[skip:]) if skip else tokens.text
    if not (skip or tokens.logprobs or tokens.parts):  # as nearly always
        return Chunk(
            *(text, tuple(tokens.token_ids), event.sequence_number, event.attempt),
            answer_index=tokens.answer_index,
            is_prompt=tokens.is_prompt,
            token_texts=shares,
        )
    parts = [part for part in tokens.parts if part.token_index >= skip]
    return Chunk(
        text=text,
        token_ids=tuple(tokens.token_ids[skip:]),
        sequence_number=event.sequence_number,
        attempt=event.attempt,
        logprobs=responses.logprobs(tokens.logprobs[skip:]),
        answer_index=tokens.answer_index,
        is_prompt=tokens.is_prompt,
        reasoning="".join(part.reasoning for part in parts),
        tool_calls=responses.call_deltas(parts),
        token_texts=shares[skip:],
    )


def _shares(tokens: pb.Tokens) -> tuple[str, ...]:
    """Each token's share of the text; none where the event does not say."""
    text, lengths = tokens.text, tokens.text_lengths
    if len(tokens.token_ids) == 1:
        return (text,)
    if len(lengths) != len(tokens.token_ids) or sum(lengths) != len(text):
        return ()
    ends = list(accumulate(lengths, initial=0))
    return tuple(text[begin:end] for begin, end in pairwise(ends))
