"""The models that one worker serves at this moment, and which generations it can go on with."""

from __future__ import annotations

from miao.internal.v1.queue_pb2 import ModelCard
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
    """By name. Any thread may read."""

    def __init__(self, card: ModelCard) -> None:
        self._cards = {card.name: card}

    def sources(self) -> list[QueueSource]:
        """The queues to claim from, the most urgent first."""
        cards = list(self._cards.values())
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
        card = self._cards[record.model]
        if _differ(record.vocabulary, card.vocabulary_digest):
            return _OTHER_VOCABULARY.format(model=record.model)
        if record.tokens and _differ(record.weights, card.weights_digest):
            return _OTHER_WEIGHTS.format(model=record.model)
        return None


def _differ(needed: str, present: str) -> bool:
    """Whether both are known and not the same."""
    return bool(needed and present and needed != present)
