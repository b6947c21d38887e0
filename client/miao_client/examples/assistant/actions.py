"""The typed actions that a command may become."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar


class Repeat(StrEnum):
    """How often a reminder or an alarm comes."""

    ONCE = "once"
    DAILY = "daily"
    WEEKDAYS = "weekdays"
    WEEKLY = "weekly"


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done; `kind` is its name in the model's answer."""

    kind: ClassVar[str] = ""

    def as_json(self) -> dict[str, Any]:
        """Its kind and its fields, as JSON has them."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {"action": self.kind} | {name: _plain(value) for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class SetReminder(Action):
    """Remind somebody; `at` is the first time."""

    kind = "set_reminder"
    at: datetime
    text: str = ""
    repeat: Repeat = Repeat.ONCE


@dataclass(frozen=True, slots=True)
class SetAlarm(Action):
    """Wake somebody; `at` is the first time."""

    kind = "set_alarm"
    at: datetime
    repeat: Repeat = Repeat.ONCE


@dataclass(frozen=True, slots=True)
class SetTimer(Action):
    """Say when a length of time is over."""

    kind = "set_timer"
    duration: timedelta
    text: str = ""


@dataclass(frozen=True, slots=True)
class CancelReminder(Action):
    """Drop a reminder: that at a time, those of a day, or the last one set."""

    kind = "cancel_reminder"
    at: datetime | None = None
    day: date | None = None


@dataclass(frozen=True, slots=True)
class CancelAlarm(Action):
    """Drop an alarm: that at a time, those of a day, or the last one set."""

    kind = "cancel_alarm"
    at: datetime | None = None
    day: date | None = None


@dataclass(frozen=True, slots=True)
class AddEvent(Action):
    """Note something in the calendar."""

    kind = "add_event"
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class TellTime(Action):
    """Say what time and day it is."""

    kind = "tell_time"


@dataclass(frozen=True, slots=True)
class TellWeather(Action):
    """Say the weather of a place; without a day: now."""

    kind = "weather"
    place: str
    day: date | None = None


@dataclass(frozen=True, slots=True)
class TurnOn(Action):
    """Switch a device on."""

    kind = "turn_on"
    device: str


@dataclass(frozen=True, slots=True)
class TurnOff(Action):
    """Switch a device off."""

    kind = "turn_off"
    device: str


@dataclass(frozen=True, slots=True)
class SetLevel(Action):
    """Set a device to a number: degrees or per cent."""

    kind = "set_level"
    device: str
    level: int


@dataclass(frozen=True, slots=True)
class Call(Action):
    """Telephone somebody."""

    kind = "call"
    who: str


@dataclass(frozen=True, slots=True)
class SendMessage(Action):
    """Write to somebody."""

    kind = "send_message"
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class PlayMusic(Action):
    """Play something."""

    kind = "play_music"
    what: str


@dataclass(frozen=True, slots=True)
class AddToList(Action):
    """Put something on the shopping list."""

    kind = "add_to_list"
    item: str


@dataclass(frozen=True, slots=True)
class Navigate(Action):
    """Show the way."""

    kind = "navigate"
    to: str


@dataclass(frozen=True, slots=True)
class Translate(Action):
    """Say a word in the other language, "en" or "zh"."""

    kind = "translate"
    text: str
    to: str


@dataclass(frozen=True, slots=True)
class NoAction(Action):
    """Nothing is to be done: talk, or a question."""

    kind = "none"


def _plain(value: object) -> Any:
    match value:
        case datetime():
            return value.isoformat(timespec="minutes")
        case date():
            return value.isoformat()
        case timedelta():
            return int(value.total_seconds())
        case _:
            return value
