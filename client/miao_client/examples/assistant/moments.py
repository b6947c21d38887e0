"""Days, times and lengths of time that a command mentions, whatever its language.

Reading is strict: what looks like a moment and is none, such as 30 February, or leaves open
which one is meant, such as "at the weekend", is reported instead of guessed or passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from miao_client.examples.assistant.actions import Repeat


class UnreadableError(ValueError):
    """What looks like a moment, but is none; with `is_open` it leaves open which one."""

    def __init__(self, said: str, *, is_open: bool = False) -> None:
        super().__init__(said)
        self.said = said
        self.is_open = is_open


@dataclass(frozen=True, slots=True)
class Day:
    """A day that was mentioned.

    names: the ways in which the model may write it.
    date: the day, or for what repeats the first one from today.
    step_days: where that day's time has passed already, go on by so many; 0: it has passed.
    """

    names: tuple[str, ...]
    date: date
    repeat: Repeat = Repeat.ONCE
    step_days: int = 0
    next_year: bool = False  # where it has passed, the same day of the next year is meant


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day that was mentioned; two times where morning or evening was not said."""

    said: str
    times: tuple[time, ...]


@dataclass(frozen=True, slots=True)
class Length:
    """A length of time that was mentioned, and the ways in which the model may write it."""

    names: tuple[str, ...]
    duration: timedelta


@dataclass(frozen=True, slots=True)
class Mentions:
    """All that a command mentions; `unreadable` are the moments in it that cannot be used."""

    days: tuple[Day, ...] = ()
    clocks: tuple[Clock, ...] = ()
    lengths: tuple[Length, ...] = ()
    numbers: tuple[int, ...] = ()
    unreadable: tuple[str, ...] = ()


def unreadable_words(failures: Sequence[UnreadableError], days: Sequence[Day]) -> tuple[str, ...]:
    """What must be asked about. Beside a day, "the weekend" is what somebody has to plan."""
    return tuple(each.said for each in failures if not (each.is_open and days))


def different(*names: str) -> tuple[str, ...]:
    """Names without those that come twice."""
    return tuple(dict.fromkeys(names))


def clock_times(hour: int, minute: int, part: str, *, is_exact: bool = False) -> tuple[time, ...]:
    """The times that an hour may mean in a part of the day ("" where none was said).

    Raises UnreadableError where there is no such hour, or where a night hour leaves its day open.
    """
    said = f"{hour}:{minute:02d}"
    if hour > 23 or minute > 59:
        raise UnreadableError(said)
    if hour > 12 or hour == 0:
        return (time(hour, minute),)
    match part:
        case "" if not is_exact:
            return (time(hour % 12, minute), time(hour % 12 + 12, minute))
        case "dawn" | "am":
            return (time(hour % 12, minute),)
        case "" | "morning":
            return (time(hour, minute),)
        case "noon":
            return (time(hour if hour > 10 else hour + 12, minute),)
        case "pm" | "afternoon":
            return (time(hour % 12 + 12, minute),)
    if hour < 5 or hour == 12:  # "at two in the night": of which day?
        raise UnreadableError(said)
    return (time(hour + 12, minute),)


def next_weekday(today: date, weekday: int) -> date:
    """The first such day from today on; Monday is 0."""
    return today + timedelta(days=(weekday - today.weekday()) % 7)


def weekday_of_week(today: date, weekday: int, weeks: int) -> date:
    """That day of the calendar's week, so many weeks from this one."""
    return today + timedelta(days=weekday - today.weekday() + 7 * weeks)


def date_of(year: int, month: int, day: int, said: str) -> date:
    """A date. Raises UnreadableError where the calendar has none."""
    try:
        return date(year, month, day)
    except ValueError:
        raise UnreadableError(said) from None


def moment(day: Day | None, clock: time, now: datetime) -> datetime | None:
    """When a time of a day is, from now on; None where it has passed."""
    start = day or Day((), now.date(), step_days=1)
    for found in _dates(start, now):
        at = datetime.combine(found, clock, now.tzinfo)
        if at > now:
            return at
    return None


def _dates(day: Day, now: datetime) -> Iterator[date]:
    """The dates that a mention may mean, the nearest first."""
    yield day.date
    if day.next_year:
        yield date_of(now.year + 1, day.date.month, day.date.day, day.names[0])
    for steps in range(1, 8) if day.step_days else ():
        found = day.date + timedelta(days=steps * day.step_days)
        if day.repeat is not Repeat.WEEKDAYS or found.weekday() < 5:
            yield found
