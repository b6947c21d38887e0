"""Repeat after me: answers that are copies, and nothing but copying explains them.

Answers of other intents copy a word or two; these copy everything, so the model learns
to copy early, and the other intents have only to learn what to copy.
"""

import random

from training.corpus import clocks, things
from training.corpus import slots as s
from training.grammar import Intent

_ZH_SCRAPS = (
    s.zh_person,
    s.zh_task,
    things.zh_task,
    s.zh_device,
    s.order_number,
    lambda r: clocks.zh_when(r)["when"],
    things.zh_city,
    things.zh_product,
    things.zh_message,
)
_EN_SCRAPS = (
    s.rare_name,
    s.order_number,
    lambda r: s.en_person(r)["whom"],
    lambda r: s.en_task(r)["task_you"],
    things.en_task,
    lambda r: s.en_device(r)["device"],
    lambda r: clocks.en_when(r)["when"],
    things.en_city,
    things.en_product,
    things.en_message,
)


def _zh_text(rng: random.Random) -> str:
    return rng.choice("，、").join(rng.choice(_ZH_SCRAPS)(rng) for _ in range(rng.randint(1, 4)))


def _en_text(rng: random.Random) -> str:
    return ", ".join(rng.choice(_EN_SCRAPS)(rng) for _ in range(rng.randint(1, 4)))


INTENTS = [
    Intent(
        "repetition",
        "zh",
        [
            "[请|帮我|]重复[一遍|一下|]：{text}",
            "[请|]跟我[说|念|读][一遍|]：{text}",
            "[请|]照着[写|抄|说][一遍|]：{text}",
        ],
        ["{text}"],
        {"text": _zh_text},
        weight=9.0,
    ),
    Intent(
        "repetition",
        "en",
        [
            "[please|can you|] repeat[ after me|]: {text}",
            "[please|] say[ after me| this| exactly|]: {text}",
            "[please|] [copy|write] this[ down|]: {text}",
        ],
        ["{text}"],
        {"text": _en_text},
        weight=9.0,
    ),
]
