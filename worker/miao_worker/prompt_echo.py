"""The part of a prompt that is streamed before the answers."""

from __future__ import annotations

from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_worker.detokenizer import Detokenizer


class PromptEcho:
    """Says the prompt's tokens from `echo_from` on, one after the other."""

    def __init__(self, job: Job, tokenizer: Tokenizer) -> None:
        self._token_ids = job.prompt_token_ids
        self._next = job.echo_from if job.HasField("echo_from") else len(job.prompt_token_ids)
        self._detokenizer = Detokenizer(tokenizer, job.prompt_token_ids[: self._next])

    @property
    def is_complete(self) -> bool:
        """Whether all of it has been said."""
        return self._next >= len(self._token_ids)

    def say(self, event: pb.Tokens) -> None:
        """Add the next token to an event."""
        token_id = self._token_ids[self._next]
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
