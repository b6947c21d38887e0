"""Draws the documents of the second stage: mostly tasks whose answer is data.

The applications of the SDK's examples ask in these forms. Chats and plain texts stay among
them, so that what the first stage taught is not forgotten.
"""

import json
import random

from training.conversation import (
    END,
    START,
    Document,
    Piece,
    chat,
    conversation,
    plain,
    turn_of,
    typed_chat,
)
from training.corpus import INTENTS
from training.corpus import typed as t
from training.corpus.tasks import ESCALATIONS, TASK_INTENTS, nonsense
from training.grammar import Intent, Language, choose, draw_slots, fill

_ACTIONS = [*(i for i in INTENTS if i.action is not None), *TASK_INTENTS]
_TALK = [i for i in INTENTS if i.action is None and i.name != "repetition"]
_DESK = [i for i in INTENTS if i.name in t.DESK]
_CHATTED = [*INTENTS, *TASK_INTENTS]


def draw_task(rng: random.Random) -> Document:
    style = rng.random()
    if style < 0.42:
        return _action(rng)
    if style < 0.60:
        return _desk(rng)
    if style < 0.68:
        return typed_chat(rng)
    if style < 0.86:
        intent = _weighted(rng, _CHATTED)
        return chat(rng, [turn_of(rng, intent, draw_slots(rng, intent))])
    if style < 0.93:
        return chat(rng, list(conversation(rng)))
    return plain(rng)


def _weighted(rng: random.Random, intents: list[Intent]) -> Intent:
    return rng.choices(intents, [intent.weight for intent in intents])[0]


def _language(rng: random.Random) -> Language:
    return rng.choice(("zh", "en"))


def _action(rng: random.Random) -> Document:
    """A command and its action, or something else and none."""
    if rng.random() < 0.75:
        intent = _weighted(rng, _ACTIONS)
        slots = draw_slots(rng, intent)
        question, language = turn_of(rng, intent, slots).question, intent.language
        answer = t.action_answer(intent, slots)
    else:
        language, question = _no_command(rng)
        answer = json.dumps({"action": "none"})
    return _asked(t.action_system(rng, language), question, answer)


def _no_command(rng: random.Random) -> tuple[Language, str]:
    if rng.random() < 0.12:
        language = _language(rng)
        return language, nonsense(rng, language)
    intent = _weighted(rng, _TALK)
    return intent.language, turn_of(rng, intent, draw_slots(rng, intent)).question


def _desk(rng: random.Random) -> Document:
    """What a customer wants, perhaps in the middle of a conversation."""
    if rng.random() < 0.06:
        language = _language(rng)
        return _asked(
            t.desk_system(rng, language), nonsense(rng, language), t.routing("other", True)
        )
    intent = _weighted(rng, _DESK)
    system = t.desk_system(rng, intent.language)
    slots = draw_slots(rng, intent)
    turn = turn_of(rng, intent, slots)
    topic, handover = t.DESK[intent.name]
    if rng.random() < 0.6:
        return _asked(system, turn.question, t.routing(topic, handover))
    earlier = f"{_user(turn.question)}{START}assistant\n{turn.answer}{END}\n"
    if handover or rng.random() < 0.5:
        template = choose(rng, rng.choice(ESCALATIONS[intent.language]))
        following = fill(template, {}, intent.language)
        return _asked(system, following, t.routing(topic, True), earlier, turn.question)
    if intent.followups and rng.random() < 0.5:
        said, _ = rng.choice(list(intent.followups))
        said = fill(choose(rng, said), slots, intent.language)
        if not any(word in said for word in ("还是", "still", "没用", "not help")):
            return _asked(system, said, t.routing(topic, False), earlier, turn.question)
    other = rng.choice([i for i in _DESK if i.language == intent.language])
    question = turn_of(rng, other, draw_slots(rng, other)).question
    return _asked(system, question, t.routing(*t.DESK[other.name]), earlier, turn.question)


def _user(question: str) -> str:
    return f"{START}user\n{question}{END}\n"


def _asked(system: str, question: str, answer: str, earlier: str = "", *more: str) -> Document:
    """A system message, what was said before, and a question whose answer alone is learned."""
    before = f"{START}system\n{system}{END}\n{earlier}{_user(question)}{START}assistant\n"
    return Document((Piece(before, False), Piece(f"{answer}{END}", True)), (question, *more))
