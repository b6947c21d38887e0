"""The moments that an English command mentions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from miao_client.examples.assistant.actions import Repeat
from miao_client.examples.assistant.moments import (
    Clock,
    Day,
    Length,
    Mentions,
    UnreadableError,
    clock_times,
    date_of,
    different,
    next_weekday,
    unreadable_words,
    weekday_of_week,
)
from miao_client.examples.assistant.numbers import ENGLISH_NUMBER as N
from miao_client.examples.assistant.numbers import english_number

_FLAGS = re.IGNORECASE
_PART = re.compile(r"(?<!good )\b(morning|afternoon|evening|night|tonight)\b", _FLAGS)
_PARTS = {"tonight": "night", "evening": "evening"}
_MONTHS = "january february march april may june july august september october november december"
_MONTH_NAMES = {name: index for index, name in enumerate(_MONTHS.split(), 1)}
_MONTH_NAMES |= {name[:3]: index for name, index in _MONTH_NAMES.items()} | {"sept": 9}
_MONTH = "|".join(sorted(_MONTH_NAMES, key=len, reverse=True))
_WEEKDAY_NAMES = {
    name: index
    for index, names in enumerate(
        ("monday mon", "tuesday tue tues", "wednesday wed", "thursday thu thurs", "friday fri")
        + ("saturday sat", "sunday sun")
    )
    for name in names.split()
}
_WEEKDAY = "|".join(sorted(_WEEKDAY_NAMES, key=len, reverse=True))
_NTH = r"(?:st|nd|rd|th)"
_BEFORE = "".join(
    rf"(?<=\b{word} )|"
    for word in ("at", "by", "for", "to", "around", "about", "until", "till", "from", "@")
).rstrip("|")
_UNITS = (
    r"hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|degrees?|percent"
    r"|times|people|of"
)
_AFTER = (
    r"in the (?:morning|afternoon|evening)|at night|tonight|tomorrow|today|every|this|next"
    rf"|on (?:{_WEEKDAY})\b|(?:{_WEEKDAY})\b"
)
_CLOCK = re.compile(
    rf"\b(?P<past>half|(?:a )?quarter|{N}(?: minutes?)?) (?P<way>past|to|after|before) (?P<of>{N})"
    r"(?:\s*(?P<half_of>[ap])\.?m\b\.?)?(?! minutes?| hours?)"
    rf"|\b(?P<hour>{N})(?:[:.](?P<minute>\d{{2}}))?\s*(?P<half>[ap])\.?m\b\.?"
    r"|\b(?P<digits>\d{1,2}:\d{2})\b"
    rf"|\b(?P<sharp>{N}) o'?clock\b"
    rf"|(?:{_BEFORE})(?P<plain>{N})\b"
    r"(?: (?P<words>(?:twenty|thirty|forty|fifty)(?:[ -](?:one|two|three|four|five))?"
    r"|ten|fifteen)\b)?"
    rf"(?!\s*(?:{_UNITS})\b|[-\d:.,/%]\d|{_NTH}\b|\s*%)"
    rf"|\b(?P<followed>{N})(?=\s+(?:{_AFTER}))"
    r"|\b(?P<noon>noon)\b|\b(?P<midnight>midnight)\b",
    _FLAGS,
)
_DAY = re.compile(
    r"\b(?:(?P<full>20\d\d-\d{1,2}-\d{1,2})"
    rf"|(?P<in_year>(?:{_MONTH})\.? \d{{1,2}}{_NTH}?(?:,? 20\d\d)?"
    rf"|(?:the )?\d{{1,2}}{_NTH}?(?: of)? (?:{_MONTH})(?:,? 20\d\d)?)"
    rf"|(?P<later>in (?:a|{N}) (?:days?|weeks?)|{N} (?:days?|weeks?) from now)"
    r"|(?P<after>(?:the )?day after tomorrow)"
    r"|(?P<weekdays>(?:every |each |on )?weekdays?)"
    r"|(?P<daily>(?:every|each) (?:day|morning|afternoon|evening|night)|daily|every single day)"
    rf"|(?P<weekly>(?:every|each) (?:{_WEEKDAY})|(?:{_WEEKDAY})s)"
    rf"|(?P<weekday>(?:(?:next|this|coming) )?(?:{_WEEKDAY}))(?! after next| week)"
    r"|(?P<near>today|tonight|tomorrow|this (?:morning|afternoon|evening))"
    rf"|(?P<day>the \d{{1,2}}{_NTH})"
    r"|(?P<open>yesterday|next (?:week|month|year)|(?:this |next )?weekends?"
    r"|(?:the )?end of (?:the |this )?(?:week|month|year)|christmas|easter|new year|thanksgiving"
    rf"|last (?:week|month|year|night|{_WEEKDAY})|some ?day"
    rf"|(?:{_WEEKDAY})(?: after next| week)))\b",
    _FLAGS,
)
_LENGTH = re.compile(
    rf"\b(?P<number>half an?|(?:a )?quarter of an|an?|\d+\.\d+|{N})(?P<half> and a half)?[ -]?"
    r"(?P<unit>hours?|hrs?|minutes?|mins?|seconds?|secs?)\b(?P<more> and a half)?",
    _FLAGS,
)
_SMALL = re.compile(
    r"\b(?:at|on|in|the|for|a|please|make it|then|well|uh|um|i mean|yes|no|of|and|to|by)\b|[,.!?]",
    _FLAGS,
)
_SECONDS = {"h": 3600, "m": 60, "s": 1}


MOMENTS = (_CLOCK, _DAY, _LENGTH, _PART)


def read(command: str, now: datetime) -> Mentions:
    """All moments that the command mentions."""
    unreadable: list[UnreadableError] = []
    days, clocks = [], []
    for found in _DAY.finditer(command):
        try:
            days.append(_day(found, now.date()))
        except UnreadableError as failure:
            failure.said = found[0]
            unreadable.append(failure)
    parts = {part.lower() for part in _PART.findall(command)}
    part = parts.pop() if len(parts) == 1 else ""
    for found in _CLOCK.finditer(command):
        try:
            clocks.append(_clock(found, _PARTS.get(part, part)))
        except UnreadableError as failure:
            failure.said = found[0]
            unreadable.append(failure)
    return Mentions(
        days=tuple(days),
        clocks=tuple(clocks),
        lengths=tuple(_lengths(command)),
        numbers=tuple(int(digits) for digits in re.findall(r"\d{1,4}", command)),
        unreadable=unreadable_words(unreadable, days),
    )


def without_moments(command: str) -> str:
    """What a command says besides moments and the small words around them."""
    for pattern in (*MOMENTS, _SMALL):
        command = pattern.sub(" ", command)
    return " ".join(command.split())


def _clock(found: re.Match[str], part: str) -> Clock:
    said = found[0]
    if found["noon"]:
        return Clock(said, (time(12, 0),))
    if found["midnight"]:
        raise UnreadableError(said)
    if found["past"]:
        return Clock(said, _relative(found, part))
    if found["half"]:
        hour, minute = english_number(found["hour"]), int(found["minute"] or 0)
        if not 1 <= hour <= 12:
            raise UnreadableError(said)
        return Clock(said, clock_times(hour, minute, _half(found["half"])))
    if found["digits"]:
        hour_text, minute_text = found["digits"].split(":")
        exact = hour_text[0] == "0" and len(hour_text) == 2
        return Clock(said, clock_times(int(hour_text), int(minute_text), part, is_exact=exact))
    hour = english_number(found["sharp"] or found["plain"] or found["followed"])
    return Clock(said, clock_times(hour, english_number(found["words"] or "0"), part))


def _half(letter: str) -> str:
    return f"{letter.lower()}m"


def _relative(found: re.Match[str], part: str) -> tuple[time, ...]:
    """Half past seven, a quarter to eight, ten past nine."""
    amount = found["past"].lower()
    fixed = {"half": 30, "quarter": 15, "a quarter": 15}
    minutes = fixed[amount] if amount in fixed else english_number(amount.split(" min")[0])
    hour = english_number(found["of"])
    if found["way"].lower() in ("to", "before"):
        hour, minutes = hour - 1 or 12, 60 - minutes
    if not 1 <= hour <= 12 or not 0 <= minutes < 60:
        raise UnreadableError(found[0])
    return clock_times(hour, minutes, _half(found["half_of"]) if found["half_of"] else part)


def _day(found: re.Match[str], today: date) -> Day:
    said, group = found[0], found.lastgroup
    lowered = said.lower()
    match group:
        case "full":
            year, month, number = map(int, said.split("-"))
            return Day((said,), date_of(year, month, number, said))
        case "in_year":
            return _date(said, today)
        case "later":
            number = english_number(re.search(rf"\b(?:a|{N})\b", lowered)[0])  # type: ignore[index]
            return Day((said,), today + timedelta(days=number * (7 if "week" in lowered else 1)))
        case "after":
            return Day(different("the day after tomorrow", said), today + timedelta(days=2))
        case "weekdays":
            first = today if today.weekday() < 5 else next_weekday(today, 0)
            return Day(different("every weekday", said), first, Repeat.WEEKDAYS, 1)
        case "daily":
            return Day(different("every day", said), today, Repeat.DAILY, 1)
        case "weekly":
            name = lowered.split()[-1]
            weekday = _WEEKDAY_NAMES[name if name in _WEEKDAY_NAMES else name.rstrip("s")]
            names = different(said[0].lower() + said[1:], said)
            return Day(names, next_weekday(today, weekday), Repeat.WEEKLY, 7)
        case "weekday":
            return _weekday(said, today)
        case "near":
            names = ("tonight", "today") if lowered == "tonight" else (_bare(lowered),)
            return Day(names, today + timedelta(days=lowered == "tomorrow"))
        case "day":
            number = int(re.findall(r"\d+", said)[0])
            year, month = divmod(today.month - 1 + (number < today.day), 12)
            return Day((said,), date_of(today.year + year, month + 1, number, said))
        case _:
            raise UnreadableError(said, is_open=True)


def _bare(lowered: str) -> str:
    return "today" if lowered.startswith("this") else lowered


def _date(said: str, today: date) -> Day:
    month = _MONTH_NAMES[re.search(_MONTH, said.lower())[0]]  # type: ignore[index]
    numbers = [int(number) for number in re.findall(r"\d+", said)]
    if len(numbers) > 1:
        return Day((said,), date_of(numbers[1], month, numbers[0], said))
    return Day((said,), date_of(today.year, month, numbers[0], said), next_year=True)


def _weekday(said: str, today: date) -> Day:
    first, *rest = said.lower().split()
    weekday = _WEEKDAY_NAMES[rest[0] if rest else first]
    if first in ("next", "this"):
        names = different(said[0].lower() + said[1:], said)
        return Day(names, weekday_of_week(today, weekday, int(first == "next")))
    return Day((said,), next_weekday(today, weekday), step_days=7)


def _lengths(command: str) -> Iterator[Length]:
    """Lengths of time; units that follow each other are one, as in 1 hour and 30 minutes."""
    said, seconds, end = "", 0.0, -1
    for found in _LENGTH.finditer(command):
        between = command[end : found.start()]
        if said and between not in (" ", " and "):
            yield Length(_length_names(said), timedelta(seconds=seconds))
            said, seconds = "", 0.0
        said = said + between + found[0] if said else found[0]
        seconds, end = seconds + _seconds(found), found.end()
    if said:
        yield Length(_length_names(said), timedelta(seconds=seconds))


def _length_names(said: str) -> tuple[str, ...]:
    """As it was said, and "12-second" as "12 seconds"."""
    apart = re.sub(
        r"(?<=\w)-(?=hour|min|sec)(\w+)", lambda found: f" {found[1].rstrip('s')}s", said
    )
    return different(apart.lower(), apart, said)


def _seconds(found: re.Match[str]) -> float:
    words = found["number"].lower()
    if words.startswith("half"):
        number = 0.5
    elif "quarter" in words:
        number = 0.25
    else:
        number = float(words) if "." in words else float(english_number(words))
    number += 0.5 * bool(found["half"]) + 0.5 * bool(found["more"])
    return number * _SECONDS[found["unit"][0].lower()]
