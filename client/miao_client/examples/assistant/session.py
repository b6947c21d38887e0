"""A conversation with the assistant: commands, questions back, and answers to these."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from miao_client.examples.assistant import chinese, english
from miao_client.examples.assistant.actions import NoAction
from miao_client.examples.assistant.agenda import Agenda
from miao_client.examples.assistant.assistant import Assistant, Unclear, Understanding
from miao_client.examples.language import language_of
from miao_client.prompts import Message
from miao_client.sync.client import Client

_MAX_TALK_TOKENS = 120
# Questions whose answer may be a moment alone, which joins the command that lacked it.
_OPEN = frozenset({"no_time", "no_duration", "which_half", "which_day_or_time", "passed"})


class Session:
    """Understands one thing after the other, and carries out what is clear.

    Args:
        client: Calls the service.
        assistant: Turns commands into actions.
        agenda: Carries them out.
    """

    def __init__(self, client: Client, assistant: Assistant, agenda: Agenda) -> None:
        self._client = client
        self._assistant = assistant
        self._agenda = agenda
        self._open: str | None = None  # a command that waits for its moment
        self.last: Understanding | None = None

    def respond(self, said: str, now: datetime) -> Iterator[str]:
        """Do what is said, or say why not, piece by piece."""
        language = language_of(said)
        self.last = understanding = self._understand(said, now)
        result = understanding.result
        self._open = None
        if isinstance(result, Unclear):
            if result.reason in _OPEN:
                self._open = understanding.command
            yield result.question
        elif isinstance(result, NoAction):
            yield from self._talk(said)
        else:
            yield self._agenda.perform(result, language, now)

    def _understand(self, said: str, now: datetime) -> Understanding:
        """A moment alone answers the question that was asked; all else stands for itself."""
        zh = language_of(said) == "zh"
        without_moments = chinese.without_moments if zh else english.without_moments
        if self._open is not None and not without_moments(said):
            return self._assistant.understand(f"{self._open}{'，' if zh else ', '}{said}", now)
        return self._assistant.understand(said, now)

    def _talk(self, said: str) -> Iterator[str]:
        """No action: the model answers in words, which promise nothing."""
        stream = self._client.generate(
            [Message("user", said)], temperature=0, max_tokens=_MAX_TALK_TOKENS
        )
        for chunk in stream:
            yield chunk.text
