"""A small template language, and what one intent of the corpus is.

Knows nothing of tokens, chat formats or models.

    [a|b|]     one of the alternatives, which may nest and may be empty
    {slot}     the value drawn for that slot, the same in question and answer
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Language = Literal["zh", "en"]
Slots = dict[str, str]
Sampler = Callable[[random.Random], "str | Slots"]
Action = Callable[[Slots], Mapping[str, object]]

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Intent:
    """What a user may want, the ways of saying it, and the ways of answering it.

    ``slots`` maps a name to the values it takes, or to a sampler; a sampler that
    returns a dict fills several slots that belong together.
    ``followups`` are (question, answer) pairs that continue the conversation.
    ``action`` gives the typed form of an assistant's command.
    """

    name: str
    language: Language
    user: Sequence[str]
    reply: Sequence[str]
    slots: Mapping[str, Sequence[str] | Sampler] = field(default_factory=dict)
    followups: Sequence[tuple[str, str]] = ()
    action: Action | None = None
    weight: float = 1.0


def words(text: str) -> list[str]:
    """The values of a slot: separated by bars, or else by spaces."""
    return text.split("|") if "|" in text else text.split()


def slots_of(template: str) -> frozenset[str]:
    """The names of the slots that a template has."""
    return frozenset(_SLOT.findall(template))


def choose(rng: random.Random, template: str) -> str:
    """Resolve the alternatives of a template; slots stay as they are."""
    while True:
        resolved = _ALTERNATIVES.sub(lambda m: rng.choice(m[1].split("|")), template)
        if resolved == template:
            return resolved
        template = resolved


def draw_slots(rng: random.Random, intent: Intent) -> Slots:
    values: Slots = {}
    for name, source in intent.slots.items():
        drawn = source(rng) if callable(source) else rng.choice(source)
        if isinstance(drawn, dict):
            values.update(drawn)
        else:
            values[name] = drawn
    return values


def fill(template: str, slots: Slots, language: Language) -> str:
    """Put the slots into a resolved template, and tidy spaces and capitals."""
    text = _SLOT.sub(lambda m: slots[m[1]], template)
    return tidy(text, language)


def tidy(text: str, language: Language) -> str:
    """One space between words, one mark at the end of a sentence, capitals, "a" or "an"."""
    text = text.strip()
    if language == "zh":
        return re.sub(r"[，。？！]{2,}", _one_mark, text)
    text = re.sub(r" {2,}", " ", text)
    text = re.sub(r" ([,.!?;])", r"\1", text)
    text = re.sub(r"[,.!?]{2,}", _one_mark, text)
    text = re.sub(r"\b([Aa]) (?=[aeioAEIO])(?!one\b)", r"\1n ", text)
    # The points of "a.m." end no sentence.
    return re.sub(r"(^|(?<![ap]\.m)[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def _one_mark(run: re.Match[str]) -> str:
    """Of several marks in a row the first that is no comma."""
    return next((mark for mark in run[0] if mark not in ",，"), run[0][0])
