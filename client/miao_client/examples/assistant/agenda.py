"""Carries actions out: keeps reminders, alarms and timers, and says what was done.

What only a device could do (lights, music, calls) is printed, not done: a program of your
own does it in place of `Agenda`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from miao_client.examples.assistant import actions as a
from miao_client.examples.language import Language

_WEEKDAYS = ("一二三四五六日", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))
_REPEATS = {
    a.Repeat.DAILY: ("，每天重复", ", every day"),
    a.Repeat.WEEKDAYS: ("，工作日重复", ", on weekdays"),
    a.Repeat.WEEKLY: ("，每周重复", ", every week"),
    a.Repeat.ONCE: ("", ""),
}

Entry = a.SetReminder | a.SetAlarm | a.SetTimer | a.AddEvent


@dataclass(slots=True)
class Agenda:
    """What is to come."""

    entries: list[Entry] = field(default_factory=list)

    def perform(self, action: a.Action, language: Language, now: datetime) -> str:
        """Do it, and say so."""
        zh = language == "zh"
        match action:
            case a.SetReminder() | a.SetAlarm() | a.SetTimer() | a.AddEvent():
                self.entries.append(action)
                return ("好的，" if zh else "Done: ") + describe(action, language)
            case a.CancelReminder(at, day):
                return self._cancel(a.SetReminder, at, day, language)
            case a.CancelAlarm(at, day):
                return self._cancel(a.SetAlarm, at, day, language)
            case a.TellTime():
                return (
                    ("现在是" if zh else "It is ")
                    + say_moment(now, language)
                    + ("。" if zh else ".")
                )
            case a.NoAction():
                return ""
            case _:
                fields = ", ".join(f"{k}={v}" for k, v in action.as_json().items() if k != "action")
                return f"[{action.kind}: {fields}]"

    def _cancel(
        self,
        kind: type[a.SetReminder] | type[a.SetAlarm],
        at: datetime | None,
        day: date | None,
        language: Language,
    ) -> str:
        """Drop the entries that are meant; without a moment the last one."""
        found = [entry for entry in self.entries if isinstance(entry, kind)]
        if at is not None:
            found = [entry for entry in found if entry.at == at]
        elif day is not None:
            found = [entry for entry in found if entry.at.date() == day]
        else:
            found = found[-1:]
        if not found:
            return "没有找到这样的提醒或闹钟。" if language == "zh" else "There is no such entry."
        self.entries = [entry for entry in self.entries if entry not in found]
        said = "；".join(describe(entry, language) for entry in found)
        return f"已取消：{said}" if language == "zh" else f"Canceled: {said}"


def describe(entry: Entry, language: Language) -> str:
    """An entry in words, with its whole date, so that a mistake would be seen."""
    zh = language == "zh"
    match entry:
        case a.SetTimer(duration, text):
            what = f"：{text}" if zh and text else f": {text}" if text else ""
            return f"计时{duration}{what}" if zh else f"a timer of {duration}{what}"
        case a.SetAlarm(at, repeat):
            name = "闹钟" if zh else "an alarm, "
            return name + say_moment(at, language) + _REPEATS[repeat][not zh]
        case a.AddEvent(at, text):
            name = "日程" if zh else "an event, "
            return f"{name}{say_moment(at, language)}{'：' if zh else ': '}{text}"
        case a.SetReminder(at, text, repeat):
            name = "提醒" if zh else "a reminder, "
            what = (("：" if zh else ": ") + text) if text else ""
            return name + say_moment(at, language) + _REPEATS[repeat][not zh] + what


def say_moment(at: datetime, language: Language) -> str:
    """A date and time without doubt."""
    if language == "zh":
        return f"{at.year}年{at.month}月{at.day}日（周{_WEEKDAYS[0][at.weekday()]}）{at:%H:%M}"
    return f"{_WEEKDAYS[1][at.weekday()]} {at:%Y-%m-%d %H:%M}"
