"""Draws the documents of the corpus: conversations and plain texts.

A document is a list of pieces; the model is trained on the pieces marked as learned.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from training.corpus import INTENTS
from training.corpus import typed as t
from training.corpus.system import system_message
from training.grammar import Intent, Language, Slots, choose, draw_slots, fill
from training.noise import disturb

START, END, TEXT_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

_WEIGHTS = [intent.weight for intent in INTENTS]
_ACTIONS = [intent for intent in INTENTS if intent.action is not None]
_LABELLED = [intent for intent in INTENTS if intent.name in t.LABELS]
_DESK = [i for i in _LABELLED if i.name not in ("reminder", "weather", "music")]
_CONTINUED = [i for i in INTENTS if i.name.startswith("continue_") or i.name == "blog"]
_GENERAL: dict[Language, Slots] = {
    "zh": {
        "product": "商品",
        "phone": "手机",
        "parcel": "包裹",
        "computer": "设备",
        "gadget": "设备",
    },
    "en": {
        "product": "item",
        "phone": "phone",
        "parcel": "package",
        "computer": "device",
        "gadget": "device",
    },
}


@dataclass(frozen=True)
class Piece:
    """A stretch of a document; only control tokens of ``markup`` pieces are special."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Document:
    pieces: tuple[Piece, ...]
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    question: str
    answer: str


def draw_document(rng: random.Random) -> Document:
    style = rng.random()
    if style < 0.55:
        return chat(rng, [_turn(rng, draw_intent(rng))])
    if style < 0.69:
        return chat(rng, list(conversation(rng)))
    if style < 0.81:
        return typed_chat(rng)
    return plain(rng)


def draw_intent(rng: random.Random, language: Language | None = None) -> Intent:
    while True:
        intent = rng.choices(INTENTS, _WEIGHTS)[0]
        if language in (None, intent.language):
            return intent


def _draw_continued(rng: random.Random) -> Intent:
    return rng.choices(_CONTINUED, [intent.weight for intent in _CONTINUED])[0]


def _question(rng: random.Random, template: str, slots: Slots, language: Language) -> str:
    if rng.random() < 0.25:
        template = disturb(rng, template, language)
    text = fill(template, slots, language)
    if rng.random() < 0.15:  # as people type
        text = text.rstrip(".!?。！？")
        text = text if text.startswith("I ") else text[:1].lower() + text[1:]
    return text


def _turn(rng: random.Random, intent: Intent) -> Turn:
    return turn_of(rng, intent, draw_slots(rng, intent))


def turn_of(rng: random.Random, intent: Intent, slots: Slots) -> Turn:
    question = choose(rng, rng.choice(intent.user))
    # What the question does not name, the answer must not invent.
    for name, general in _GENERAL[intent.language].items():
        if f"{{{name}}}" not in question and name in slots:
            slots[name] = general
    reply = fill(choose(rng, rng.choice(intent.reply)), slots, intent.language)
    return Turn(_question(rng, question, slots, intent.language), reply)


def conversation(rng: random.Random) -> Iterator[Turn]:
    """Two to six turns, mostly in one language, some of which refer to the one before."""
    language: Language = rng.choice(("zh", "en"))
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.1:
            language = "en" if language == "zh" else "zh"
        intent = draw_intent(rng, language)
        slots = draw_slots(rng, intent)
        yield turn_of(rng, intent, slots)
        if intent.followups and rng.random() < 0.75:
            user, reply = rng.choice(list(intent.followups))
            yield Turn(
                fill(choose(rng, user), slots, language), fill(choose(rng, reply), slots, language)
            )


def chat(rng: random.Random, turns: list[Turn], system: str | None = None) -> Document:
    pieces: list[Piece] = []
    if system is None and rng.random() < 0.2:
        language: Language = "en" if turns[0].question.isascii() else "zh"
        system = system_message(rng, language)
    if system:
        pieces.append(Piece(f"{START}system\n{system}{END}\n", False))
    for turn in turns:
        pieces.append(Piece(f"{START}user\n{turn.question}{END}\n{START}assistant\n", False))
        pieces.append(Piece(f"{turn.answer}{END}", True))
        pieces.append(Piece("\n", False))
    return Document(tuple(pieces[:-1]), tuple(turn.question for turn in turns))


def typed_chat(rng: random.Random) -> Document:
    style = rng.random()
    if style < 0.5:
        intent = rng.choice(_ACTIONS)
        slots = draw_slots(rng, intent)
        question = turn_of(rng, intent, slots).question
        return chat(
            rng,
            [Turn(question, t.action_answer(intent, slots))],
            t.action_system(rng, intent.language),
        )
    if style < 0.65:
        language: Language = rng.choice(("zh", "en"))
        system, question, answer = t.sentiment_task(rng, language)
        return chat(rng, [Turn(question, answer)], system)
    task, intents = (t.label_task, _LABELLED) if style < 0.85 else (t.desk_task, _DESK)
    intent = rng.choice(intents)
    system, answer = task(rng, intent)
    return chat(rng, [Turn(_turn(rng, intent).question, answer)], system)


def plain(rng: random.Random) -> Document:
    """A question or a beginning, and what follows it, without any markup."""
    continued = rng.random() < 0.6
    intent = _draw_continued(rng) if continued else draw_intent(rng)
    turn = _turn(rng, intent)
    joint = "\n" if rng.random() < 0.15 else " " if intent.language == "en" else ""
    return Document(
        (
            Piece(turn.question, continued),
            Piece(joint + turn.answer + TEXT_END, True),
        ),
        (turn.question,),
    )
