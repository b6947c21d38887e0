"""What a customer wants, and whether a person must take over: a typed answer of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from miao_client.examples.language import Language
from miao_client.prompts import Message
from miao_client.sync.client import Client

Topic = (
    Literal["network", "refund", "return", "delivery", "password", "invoice", "repair", "battery"]
    | Literal[
        "billing",
        "cancellation",
        "hours",
        "human",
        "product",
        "address",
        "greeting",
        "thanks",
        "other",
    ]
)

INSTRUCTIONS: dict[Language, str] = {
    "zh": "你是客服台。用JSON给出topic和handover。",
    "en": "You are a customer-service desk. Give the topic and handover as JSON.",
}


@dataclass(frozen=True)
class Route:
    """The model's own words, as JSON."""

    topic: Topic
    handover: bool


@dataclass(frozen=True, slots=True)
class Routing:
    """A route, and how likely it is to the model."""

    route: Route
    probability: float


def route(
    client: Client, messages: Sequence[Message], language: Language, model: str | None
) -> Routing:
    """Ask for the route of the last message, in the light of those before it."""
    stream = client.generate(
        [Message("system", INSTRUCTIONS[language]), *messages],
        model=model,
        response_format=Route,
        temperature=0,
        max_tokens=64,
        logprobs=0,
    )
    result = stream.result()
    return Routing(result.parse(Route), math.exp(sum(each.logprob for each in result.logprobs)))
