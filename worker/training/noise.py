# ruff: noqa: E501  (lists of words read best on one line)
"""Disturbs the wording of a question, so that the model reads more than fixed phrases.

Slots are never touched: what an answer repeats has to stand in the question.
"""

import random
import re
from collections.abc import Callable

from training.grammar import Language, words

_UNITS = {"en": re.compile(r"\{\w+\}[^\s]*|\S+"), "zh": re.compile(r"\{\w+\}|[A-Za-z0-9]+|\S")}
_EN_FILLERS = words(
    "well|so|um|okay|oh|listen|quick question|you know|actually|by the way|just|really|now|today|again|kindly|hmm|look|right|sorry|excuse me|my friend|dear|then|maybe|always|suddenly|here|since last week|after the update|I think|honestly"
)
_ZH_FILLERS = words(
    "嗯 那个 就是 其实 请 呢 啊 吧 呀 那 嘛 麻烦 问一下 不好意思 亲 就 又 突然 现在 今天 好像 总是 真的 有点 已经 一直 老是 的话 一下 刚刚 更新以后"
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _hanzi() -> str:
    """The common characters: the first level of GB 2312."""
    rows = (bytes((high, low)) for high in range(0xB0, 0xD8) for low in range(0xA1, 0xFF))
    return "".join(row.decode("gb2312", errors="ignore") for row in rows)


HANZI = _hanzi()


def junk_word(rng: random.Random, language: Language) -> str:
    """A word the model has no use for."""
    if language == "zh":
        return "".join(rng.choice(HANZI) for _ in range(rng.randint(1, 2)))
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(2, 7)))


def _drop(rng: random.Random, units: list[str], at: int, language: Language) -> None:
    del units[at]


def _replace(rng: random.Random, units: list[str], at: int, language: Language) -> None:
    units[at] = junk_word(rng, language)


def _insert(rng: random.Random, units: list[str], at: int, language: Language) -> None:
    units.insert(at, rng.choice(_EN_FILLERS if language == "en" else _ZH_FILLERS))


def _insert_junk(rng: random.Random, units: list[str], at: int, language: Language) -> None:
    units.insert(at, junk_word(rng, language))


def _misspell(rng: random.Random, units: list[str], at: int, language: Language) -> None:
    word = units[at]
    if language == "en" and len(word) > 3:
        cut = rng.randrange(1, len(word) - 1)
        units[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]


_CHANGES: tuple[Callable[[random.Random, list[str], int, Language], None], ...] = (
    _drop,
    _replace,
    _insert,
    _insert,
    _insert_junk,
    _misspell,
)


def disturb(rng: random.Random, template: str, language: Language) -> str:
    """One or two small changes to the words around the slots."""
    units = _UNITS[language].findall(template)
    free = [i for i, unit in enumerate(units) if "{" not in unit]
    if len(free) < 4:
        return template
    for _ in range(rng.randint(1, 2)):
        free = [i for i, unit in enumerate(units) if "{" not in unit]
        if free:
            rng.choice(_CHANGES)(rng, units, rng.choice(free), language)
    return (" " if language == "en" else "").join(units)
