"""All intents of the corpus."""

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
from training.grammar import Intent

INTENTS: tuple[Intent, ...] = (
    *service_zh.INTENTS,
    *service_en.INTENTS,
    *assistant_zh.INTENTS,
    *assistant_en.INTENTS,
    *continuation_zh.INTENTS,
    *continuation_en.INTENTS,
    *repetition.INTENTS,
    *smalltalk_zh.INTENTS,
    *smalltalk_en.INTENTS,
)
