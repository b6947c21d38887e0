"""All intents of the corpus."""

from collections.abc import Iterator
from dataclasses import replace

from training.corpus import (
    assistant_en,
    assistant_zh,
    continuation_en,
    continuation_zh,
    repetition,
    service_en,
    service_zh,
    smalltalk_en,
    smalltalk_zh,
)
from training.corpus.rewordings import assistant_en as more_assistant_en
from training.corpus.rewordings import assistant_zh as more_assistant_zh
from training.corpus.rewordings import reworded
from training.corpus.rewordings import service_en as more_service_en
from training.corpus.rewordings import service_zh as more_service_zh
from training.corpus.rewordings import smalltalk_en as more_smalltalk_en
from training.corpus.rewordings import smalltalk_zh as more_smalltalk_zh
from training.grammar import Intent


def _weighted(intents: list[Intent], share: float) -> Iterator[Intent]:
    for intent in intents:
        yield replace(intent, weight=intent.weight * share)


# Service and commands have the most to copy and to tell apart, so they come most often.
INTENTS: tuple[Intent, ...] = (
    *_weighted(reworded(service_zh.INTENTS, more_service_zh.REWORDINGS), 1.5),
    *_weighted(reworded(service_en.INTENTS, more_service_en.REWORDINGS), 1.5),
    *_weighted(reworded(assistant_zh.INTENTS, more_assistant_zh.REWORDINGS), 1.5),
    *_weighted(reworded(assistant_en.INTENTS, more_assistant_en.REWORDINGS), 1.5),
    *_weighted(continuation_zh.INTENTS, 0.5),
    *_weighted(continuation_en.INTENTS, 0.5),
    *repetition.INTENTS,
    *reworded(smalltalk_zh.INTENTS, more_smalltalk_zh.REWORDINGS),
    *reworded(smalltalk_en.INTENTS, more_smalltalk_en.REWORDINGS),
)
