"""The part of a prompt that is streamed before the answers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_worker.detokenizer import Detokenizer
from miao_worker.engine.types import TokenLogprobs
from miao_worker.token_messages import TokenText, logprobs_message


class PromptEcho:
    """Says the prompt's tokens from `echo_from` on, one after the other.

    Where their log-probabilities are asked for, each waits until the engine has
    brought its own; the prompt's first token has none.
    """

    def __init__(self, job: Job, tokenizer: Tokenizer, token_text: TokenText) -> None:
        self._token_ids = job.prompt_token_ids
        self._num_tokens = len(job.prompt_token_ids)
        self._next = job.echo_from if job.HasField("echo_from") else len(job.prompt_token_ids)
        self._is_scored = job.HasField("prompt_logprobs")
        self._ahead: deque[TokenLogprobs] = deque()
        self._token_text = token_text
        self._detokenizer = Detokenizer(tokenizer, job.prompt_token_ids[: self._next])

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been said."""
        return self._next >= self._num_tokens

    @property
    def has_ahead(self) -> bool:
        """Whether there is something to say."""
        return not self.is_complete and (not self._waits or bool(self._ahead))

    @property
    def next_score(self) -> int | None:
        """The prompt token whose log-probability the engine is to bring next; None: none."""
        place = max(1, self._next) + len(self._ahead)
        return place if self._is_scored and place < len(self._token_ids) else None

    @property
    def _waits(self) -> bool:
        """Whether the next token is said with a log-probability."""
        return self._is_scored and self._next > 0

    def bring(self, logprobs: Iterable[TokenLogprobs]) -> None:
        """Keep what the engine brought for the next tokens."""
        self._ahead.extend(logprobs)

    def say(self, event: pb.Tokens) -> None:
        """Add the next token to an event."""
        token_id = self._token_ids[self._next]
        if self._waits:
            event.logprobs.append(logprobs_message(self._ahead.popleft(), self._token_text))
        elif self._is_scored:
            event.logprobs.add()
        piece = self._push(token_id)
        if self.is_complete:
            piece += self._detokenizer.flush()
        event.token_ids.append(token_id)
        event.text += piece
        event.text_lengths.append(len(piece))

    def replay(self, tokens: pb.Tokens) -> None:
        """Go on after an event that an earlier attempt has written."""
        for token_id in tokens.token_ids:
            self._push(token_id)

    def _push(self, token_id: int) -> str:
        self._next += 1
        return self._detokenizer.push(token_id)
