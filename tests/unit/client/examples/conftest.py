"""A service whose answers the tests write."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from miao_client import formats


class FakeStream:
    """One answer, in pieces of three characters."""

    def __init__(self, text: str, probability: float, reason: str) -> None:
        logprobs = (SimpleNamespace(logprob=math.log(probability) / 2),) * 2 if text else ()
        self._result = SimpleNamespace(
            text=text,
            logprobs=logprobs,
            finish_reason=reason,
            parse=lambda kind: formats.parse(kind, text),
        )

    def __iter__(self) -> Any:
        text = self._result.text
        return iter([SimpleNamespace(text=text[i : i + 3]) for i in range(0, len(text), 3)])

    def result(self) -> Any:
        return self._result


class FakeClient:
    """Says what a test has scripted, in turn; `requests` are what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, float, str] | Exception] = []
        self.requests: list[tuple[Any, dict[str, Any]]] = []
        self.scores: dict[str, float] = {}

    def say(self, text: str, probability: float = 0.99, reason: str = "stop") -> None:
        self.answers.append((text, probability, reason))

    def generate(self, prompt: Any, **settings: Any) -> FakeStream:
        self.requests.append((prompt, settings))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return FakeStream(*answer)

    def tokenize(self, messages: Any, **_: Any) -> Any:
        return SimpleNamespace(token_ids=tuple(range(10 * len(messages))))

    def score(self, text: str, *, prompt: Any) -> Any:
        self.requests.append((prompt, {"text": text}))
        return SimpleNamespace(log_likelihood=self.scores[text])


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def say_action(client: FakeClient) -> Callable[..., None]:
    """The model's two answers to a command: the kind, and the fields if there are any."""

    def say(kind: str, fields: str = "", probability: float = 0.99, sure: float = 0.99) -> None:
        client.say('{"action": "' + kind, probability)
        if fields:
            client.say('{"action": "' + kind + '", ' + fields + "}", sure)

    return say
