"""Which kinds of action there are, which fields each has, and how the model must write them.

The model writes `{"action": "set_reminder", "day": "明天", "time": "07:00", "text": "开会"}`.
It is asked twice: for the kind, as one of some choices, and for that kind's fields, by a
grammar in which days, times and words are those that occur in the command. So it can choose
wrongly, but it can invent nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from miao_client.examples.assistant.moments import Mentions
from miao_client.formats import Choices, Grammar

COPIED = frozenset({"text", "who", "what", "device", "place", "item", "to"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind's fields in the order in which the model writes them."""

    required: tuple[str, ...] = ()  # without which there is nothing to do
    optional: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """All of them, in order."""
        return self.order or (*self.required, *self.optional)


_TIMED = ("day", "time")
KINDS: dict[str, Kind] = {
    "set_reminder": Kind(("time",), ("day", "text"), ("day", "time", "text")),
    "set_alarm": Kind(("time",), ("day",), _TIMED),
    "set_timer": Kind(("duration",), ("text",)),
    "cancel_reminder": Kind((), _TIMED),
    "cancel_alarm": Kind((), _TIMED),
    "add_event": Kind(("time", "text"), ("day",), ("day", "time", "text")),
    "tell_time": Kind(),
    "weather": Kind(("place",), ("day",)),
    "turn_on": Kind(("device",)),
    "turn_off": Kind(("device",)),
    "set_level": Kind(("device", "level")),
    "call": Kind(("who",)),
    "send_message": Kind(("who", "text")),
    "play_music": Kind(("what",)),
    "add_to_list": Kind(("item",)),
    "navigate": Kind(("to",)),
    "translate": Kind(("text", "language")),
    "none": Kind(),
}
_NAMES = {"language": "to"}  # in JSON, where it differs
_BEGINNING = '{"action": "'


def kind_format() -> Choices:
    """One of the kinds: the beginning of the answer, up to the kind's name."""
    return Choices(*(_BEGINNING + name for name in KINDS))


def kind_of(answer: str) -> str:
    """The kind that an answer to `kind_format` names."""
    return answer.removeprefix(_BEGINNING)


def fields_format(kind: str, stretch: str, mentions: Mentions) -> Grammar | None:
    """The whole answer with that kind's fields; None where it has none to say.

    stretch: what may be copied, as `spans` has it.
    """
    rules, parts = [], []
    for field in KINDS[kind].fields:
        choices = list(_choices(field, mentions))
        if not choices and field not in COPIED:
            continue
        is_number = field == "level"
        parts.append(f"{field}?" if field in KINDS[kind].optional else field)
        value = "COPY" if field in COPIED else "(" + " | ".join(map(_quoted, choices)) + ")"
        before, after = f', "{_NAMES.get(field, field)}": "', '"'
        if is_number:
            before, after = before[:-1], ""
        rules.append(
            f"{field}: {_quoted(before)} {value}" + (f" {_quoted(after)}" if after else "")
        )
    if not parts:
        return None
    start = f"start: {_quoted(_BEGINNING + kind + chr(34))} {' '.join(parts)} {_quoted('}')}"
    return Grammar("\n".join([start, *rules, f"COPY: {stretch}"]))


def _choices(field: str, mentions: Mentions) -> Iterator[str]:
    match field:
        case "day":
            yield from dict.fromkeys(name for day in mentions.days for name in day.names)
        case "time":
            times = (each for clock in mentions.clocks for each in clock.times)
            yield from dict.fromkeys(f"{each:%H:%M}" for each in times)
        case "duration":
            yield from dict.fromkeys(name for length in mentions.lengths for name in length.names)
        case "level":
            yield from dict.fromkeys(str(number) for number in mentions.numbers if number <= 100)
        case "language":
            yield from ("en", "zh")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
