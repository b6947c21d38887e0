"""The models that one worker serves at this moment, and which generations it can go on with."""

from __future__ import annotations

import hashlib

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1.explanation_pb2 import EXPLAIN_METHOD_LEAVE_ONE_OUT
from miao_queue import keys
from miao_queue.claims import QueueSource
from miao_queue.records import Record

_OTHER_VOCABULARY = (
    "the model {model!r} was replaced by one with another vocabulary while this generation "
    "waited; send it again, under another request_id"
)
_OTHER_WEIGHTS = (
    "the model {model!r} was replaced by one with other weights while this generation ran; "
    "send it again, under another request_id"
)


class ServedModels:
    """The base model and its adapters, by name. Any thread may read, one alone changes them."""

    def __init__(self, card: ModelCard) -> None:
        self.base = card
        self._cards = {card.name: card}
        self._known = dict(self._cards)  # with those that are served no longer
        self._adapters: dict[str, str] = {}  # ids by the model's name
        self._first = 0  # whose queue is looked at first, so that none waits for the others

    @property
    def names(self) -> list[str]:
        return list(self._cards)

    def add_adapter(self, name: str, adapter_id: str) -> ModelCard:
        """Serve an adapter as a model of its own; returns its card."""
        card = ModelCard()
        card.CopyFrom(self.base)
        card.name, card.base = f"{self.base.name}:{name}", self.base.name
        card.ClearField("tokenizer_json")
        if EXPLAIN_METHOD_LEAVE_ONE_OUT in card.explain_methods:
            card.explain_methods[:] = [EXPLAIN_METHOD_LEAVE_ONE_OUT]  # no gradients of adapters
        digest = hashlib.sha256(f"{self.base.weights_digest} {adapter_id}".encode())
        card.weights_digest = digest.hexdigest()[:16]
        self._adapters[card.name] = adapter_id
        self._known[card.name] = card
        self._cards = self._cards | {card.name: card}
        return card

    def remove(self, model: str) -> None:
        """Claim no more of it; what runs goes on."""
        self._cards = {name: card for name, card in self._cards.items() if name != model}

    def adapter_of(self, model: str) -> str | None:
        """The id of the adapter that a model is made with."""
        return self._adapters.get(model)

    def sources(self) -> list[QueueSource]:
        """The queues to claim from, the most urgent first."""
        cards = list(self._cards.values())
        self._first = (self._first + 1) % len(cards)
        cards = cards[self._first :] + cards[: self._first]
        return [
            QueueSource(
                keys.queue_name(card.name, priority),
                card.name,
                card.vocabulary_digest,
                card.weights_digest,
            )
            for priority in keys.PRIORITIES
            for card in cards
        ]

    def fault(self, record: Record) -> str | None:
        """Why this worker cannot go on with a generation, said to its caller; None if it can."""
        card = self._known[record.model]
        if _differ(record.vocabulary, card.vocabulary_digest):
            return _OTHER_VOCABULARY.format(model=record.model)
        if record.tokens and _differ(record.weights, card.weights_digest):
            return _OTHER_WEIGHTS.format(model=record.model)
        return None


def _differ(needed: str, present: str) -> bool:
    """Whether both are known and not the same."""
    return bool(needed and present and needed != present)
