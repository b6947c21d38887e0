"""One customer's conversation with the desk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from miao_client.examples.desk.routing import Routing, route
from miao_client.examples.language import Language, language_of
from miao_client.prompts import Message
from miao_client.sync.client import Client

_INSTRUCTIONS: dict[Language, str] = {
    "zh": "你是热心的客服。请用用户的语言回答。",
    "en": "You are a friendly customer-service agent. Always answer in the language of the user.",
}
_HANDED_OVER: dict[Language, str] = {
    "zh": "这件事我请一位同事来处理，您说过的话已经转给他了，请稍等。",
    "en": "I am handing this to a colleague, who can see all that you wrote. One moment, please.",
}
_WAITING: dict[Language, str] = {
    "zh": "同事马上就来，这句话也转给他了。",
    "en": "A colleague will be with you in a moment and sees this message too.",
}


class Reason(StrEnum):
    """Why a person takes over."""

    ASKED_OR_NEEDED = "the customer asks for a person, or the matter needs one"
    UNSURE_OF_TOPIC = "the model is not sure what the customer wants"
    UNSURE_OF_REPLY = "the model was not sure of its reply"
    REPLY_CUT_SHORT = "the reply did not come to its end"


@dataclass(frozen=True, slots=True)
class Policy:
    """When a person takes over.

    least_route_probability: below it the desk does not know what the customer wants.
    least_token_probability: the geometric mean over the reply's tokens; below it the
        reply is followed by a person.
    """

    least_route_probability: float = 0.5
    least_token_probability: float = 0.5
    max_reply_tokens: int = 160
    max_prompt_tokens: int = 512  # older turns are forgotten first


@dataclass(frozen=True, slots=True)
class Handover:
    """What the person who takes over gets to see."""

    reason: Reason
    topic: str
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the desk said to one message, and what it thought of it."""

    text: str
    topic: str
    route_probability: float
    token_probability: float  # of the reply; 1 where the model wrote none
    handover: Handover | None = None


@dataclass(slots=True)
class Desk:
    """Answers a customer until a person takes over; remembers the conversation.

    Args:
        client: Calls the service.
        policy: When a person takes over.
        on_handover: Told of it at once; a program of your own opens a ticket there.

    Example:
        >>> desk = Desk(client)
        >>> for piece in desk.stream("为什么我的手机没有信号？"):
        ...     print(piece, end="", flush=True)
    """

    client: Client
    policy: Policy = field(default_factory=Policy)
    on_handover: Callable[[Handover], None] = lambda _: None
    model: str | None = None
    history: list[Message] = field(default_factory=list)
    handover: Handover | None = None
    last: Answer | None = None  # of the last message, once its stream has ended

    def answer(self, message: str) -> Answer:
        """Answer without streaming."""
        for _ in self.stream(message):
            pass
        assert self.last is not None
        return self.last

    def stream(self, message: str) -> Iterator[str]:
        """Answer a message piece by piece.

        Raises:
            MiaoError: The service refused, failed or is not there; the message is not
                remembered then, and may be sent again.
        """
        language = language_of(message)
        if self.handover is not None:
            yield from self._wait(message, language)
            return
        asked = [*self.history, Message("user", message)]
        routing = route(self.client, self._fitting(asked), language, self.model)
        if (reason := self._reason(routing)) is not None:
            yield from self._hand_over(asked, routing, reason, language)
            return
        yield from self._reply(asked, routing, language)

    def take_back(self) -> None:
        """Let the model answer again, once the person is done."""
        self.handover = None

    def _reason(self, routing: Routing) -> Reason | None:
        if routing.route.handover:
            return Reason.ASKED_OR_NEEDED
        if routing.probability < self.policy.least_route_probability:
            return Reason.UNSURE_OF_TOPIC
        return None

    def _reply(self, asked: list[Message], routing: Routing, language: Language) -> Iterator[str]:
        """Stream the model's reply; one that it was not sure of brings a person as well."""
        messages = [Message("system", _INSTRUCTIONS[language]), *self._fitting(asked)]
        stream = self.client.generate(
            messages,
            model=self.model,
            temperature=0,
            max_tokens=self.policy.max_reply_tokens,
            logprobs=0,
        )
        for chunk in stream:
            yield chunk.text
        result = stream.result()
        logprobs = [token.logprob for token in result.logprobs]
        probability = math.exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0
        said = [*asked, Message("assistant", result.text)]
        reason = None
        if result.finish_reason != "stop":
            reason = Reason.REPLY_CUT_SHORT
        elif probability < self.policy.least_token_probability:
            reason = Reason.UNSURE_OF_REPLY
        if reason is None:
            self._remember(
                said, Answer(result.text, routing.route.topic, routing.probability, probability)
            )
            return
        yield "\n"
        yield from self._hand_over(said, routing, reason, language, result.text, probability)

    def _hand_over(
        self,
        said: list[Message],
        routing: Routing,
        reason: Reason,
        language: Language,
        reply: str = "",
        probability: float = 1.0,
    ) -> Iterator[str]:
        notice = _HANDED_OVER[language]
        yield notice
        said = [*said, Message("assistant", notice)]
        self.handover = Handover(reason, routing.route.topic, tuple(said))
        text = f"{reply}\n{notice}" if reply else notice
        answer = Answer(text, routing.route.topic, routing.probability, probability, self.handover)
        self._remember(said, answer)
        self.on_handover(self.handover)

    def _wait(self, message: str, language: Language) -> Iterator[str]:
        """With a person at work the model is silent; the message joins those that they see."""
        assert self.handover is not None
        notice = _WAITING[language]
        yield notice
        said = [*self.history, Message("user", message), Message("assistant", notice)]
        self.handover = Handover(self.handover.reason, self.handover.topic, tuple(said))
        self._remember(said, Answer(notice, self.handover.topic, 1.0, 1.0, self.handover))

    def _remember(self, said: list[Message], answer: Answer) -> None:
        self.history, self.last = said, answer

    def _fitting(self, messages: list[Message]) -> list[Message]:
        """The latest messages that fit the prompt, from a customer's on; at least the last."""
        while len(messages) > 2:
            tokens = self.client.tokenize(messages, model=self.model).token_ids
            if len(tokens) <= self.policy.max_prompt_tokens:
                break
            messages = messages[2:]
        return messages
