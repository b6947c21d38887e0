# ruff: noqa: E501  (lists of words read best on one line)
"""Clock times, days and lengths of time, as people say them and as data."""

import random

from training.grammar import Slots, words

_ZH_DIGITS = "零一二三四五六七八九十"
_EN_NUMBERS = words("zero one two three four five six seven eight nine ten eleven twelve")

ZH_DAYS = words(
    "今天 明天 后天 大后天 周一 周二 周三 周四 周五 周六 周日 星期一 星期二 星期三 星期四 星期五 星期六 星期天 礼拜三 礼拜五 下周一 下周二 下周三 下周四 下周五 这周六 这周日 本周五 每天 每周一 每周五 工作日 周末 明早 下个月1号"
)
EN_WEEKDAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
EN_MONTHS = words(
    "January February March April May June July August September October November December"
)

# (names of the part of the day, its first and last hour on a 24-hour clock)
_ZH_PARTS = (
    (("早晨", "早上", "上午", "清晨"), 5, 11),
    (("中午",), 12, 12),
    (("下午",), 13, 18),
    (("晚上", "晚上", "夜里"), 19, 23),
    (("傍晚",), 17, 19),
    (("凌晨",), 1, 5),
)


def zh_number(value: int) -> str:
    """Chinese numeral of 0 to 99."""
    if value <= 10:
        return _ZH_DIGITS[value]
    tens, ones = divmod(value, 10)
    return ("" if tens == 1 else _ZH_DIGITS[tens]) + "十" + (_ZH_DIGITS[ones] if ones else "")


def _minute(rng: random.Random) -> int:
    return rng.choice((0, 0, 0, 0, 30, 30, 15, 45, rng.randrange(5, 60, 5), rng.randrange(1, 60)))


def _zh_clock(rng: random.Random, hour: int, minute: int) -> str:
    style = rng.random()
    if style < 0.12:
        return f"{hour}:{minute:02d}"
    number = zh_number if style < 0.35 else str
    said = "两" if number is zh_number and hour == 2 else number(hour)
    if minute == 0:
        return said + rng.choice(("点", "点", "点", "点钟", "点整"))
    if minute == 30:
        return said + "点半"
    if minute == 15 and rng.random() < 0.4:
        return said + "点一刻"
    return f"{said}点{number(minute)}" + rng.choice(("", "分"))


def zh_day(rng: random.Random) -> str:
    if rng.random() < 0.15:
        return f"{rng.randint(1, 12)}月{rng.randint(1, 28)}" + rng.choice("日号")
    return rng.choice(ZH_DAYS)


def zh_when(rng: random.Random) -> Slots:
    """A time: ``when_u`` as the user says it, ``when`` as we repeat it, and its typed parts."""
    names, first, last = rng.choice(_ZH_PARTS[:1] * 3 + _ZH_PARTS + _ZH_PARTS[2:4] * 2)
    hour, minute = rng.randint(first, last), _minute(rng)
    part = rng.choice(names)
    clock = _zh_clock(rng, hour if hour <= 12 else hour - 12, minute)
    if clock[0].isdigit() and rng.random() < 0.12:  # the 24-hour clock needs no part of the day
        part, clock = "", f"{hour}点" + (f"{minute}分" if minute else "")
    day = "" if rng.random() < 0.2 else zh_day(rng)
    if day == "明早":
        day, part, hour = "明天", "早上", rng.randint(5, 10)
        clock = _zh_clock(rng, hour, minute)
        return _zh_when("明早" + clock, "明早" + clock, day, hour, minute, clock, "早上")
    joint = "的" if day and part and rng.random() < 0.2 else ""
    return _zh_when(day + joint + part + clock, day + part + clock, day, hour, minute, clock, part)


def _zh_when(
    said: str, when: str, day: str, hour: int, minute: int, clock: str, part: str
) -> Slots:
    return {
        "when_u": said,
        "when": when,
        "day": day,
        "time": f"{hour:02d}:{minute:02d}",
        "clock": part + clock,
    }


def zh_clock(rng: random.Random) -> Slots:
    """Another time of day, for a change of plan."""
    when = zh_when(rng)
    return {"clock2": when["clock"]}


def en_clock(rng: random.Random, hour: int, minute: int) -> tuple[str, bool]:
    """The time of day in words, and whether it says by itself morning or evening."""
    short = hour % 12 or 12
    half = "am" if hour < 12 else "pm"
    style = rng.random()
    if style < 0.34:
        half = rng.choice((f" {half}", f" {half}", half, f" {half[0]}.m."))
        return (f"{short}:{minute:02d}{half}" if minute else f"{short}{half}"), True
    if style < 0.40:
        return f"{hour}:{minute:02d}", True
    number = str(short) if style < 0.80 else _EN_NUMBERS[short]
    if minute == 0:
        return number + rng.choice(("", "", "", " o'clock")), False
    if minute == 30 and rng.random() < 0.5:
        return f"half past {number}", False
    if minute == 15 and rng.random() < 0.5:
        return f"quarter past {number}", False
    return f"{short}:{minute:02d}", False


def en_date(rng: random.Random) -> tuple[str, str]:
    """A day as (with its preposition, bare)."""
    style = rng.random()
    if style < 0.35:
        return ("tomorrow",) * 2
    if style < 0.45:
        return ("today",) * 2
    if style < 0.52:
        return (rng.choice(("the day after tomorrow", "every day", "every weekday")),) * 2
    if style < 0.70:
        day = rng.choice(EN_WEEKDAYS)
        return f"on {day}", day
    if style < 0.88:
        return (f"{rng.choice(('next', 'this', 'every'))} {rng.choice(EN_WEEKDAYS)}",) * 2
    date = f"{rng.choice(EN_MONTHS)} {rng.randint(1, 28)}"
    return f"on {date}", date


def en_when(rng: random.Random) -> Slots:
    """A time: ``when`` follows "for", ``at_when`` stands alone; and its typed parts."""
    hour, minute = rng.choice((rng.randint(5, 11), rng.randint(5, 22))), _minute(rng)
    clock, clear = en_clock(rng, hour, minute)
    part = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    if hour >= 20 and rng.random() < 0.4:
        part = "night"
    with_preposition, day = en_date(rng)
    typed = {"time": f"{hour:02d}:{minute:02d}", "day": day}
    if rng.random() < 0.15:
        typed["day"] = ""
        spoken = (
            clock if clear else f"{clock} " + ("at night" if part == "night" else f"in the {part}")
        )
        return {**typed, "when": spoken, "at_when": f"at {spoken}", "clock": spoken}
    if clear:
        spoken = clock
    elif day in ("tomorrow", *EN_WEEKDAYS) or day.startswith(("this", "next", "every S")):
        with_preposition, day, spoken = f"{with_preposition} {part}", f"{day} {part}", clock
        if with_preposition.startswith("today"):
            with_preposition = day = f"this {part}"
    elif part in ("evening", "night") and day == "today":
        with_preposition = day = "tonight"
        typed["day"] = "tonight"
        spoken = clock
    else:
        spoken = f"{clock} " + ("at night" if part == "night" else f"in the {part}")
    if rng.random() < 0.6:
        when = f"{spoken} {with_preposition}"
        return {**typed, "when": when, "at_when": f"at {when}", "clock": spoken}
    return {
        **typed,
        "when": f"{day} at {spoken}",
        "at_when": f"{with_preposition} at {spoken}",
        "clock": spoken,
    }


def en_clock2(rng: random.Random) -> Slots:
    hour, minute = rng.randint(5, 22), _minute(rng)
    clock, _ = en_clock(rng, hour, minute)
    return {"clock2": clock}


def zh_duration(rng: random.Random) -> Slots:
    """A length of time, as said and in seconds."""
    style = rng.random()
    if style < 0.65:
        value = rng.choice((rng.randint(1, 60), rng.choice((5, 10, 15, 20, 25, 30, 45))))
        number = zh_number(value) if rng.random() < 0.3 else str(value)
        number = "两" if number == "二" else number
        return {"duration": f"{number}分钟", "seconds": str(value * 60)}
    if style < 0.85:
        value = rng.randint(1, 12)
        number = zh_number(value) if rng.random() < 0.4 else str(value)
        number = "两" if number == "二" else number
        return {"duration": f"{number}[个]小时".replace("[个]", "个"), "seconds": str(value * 3600)}
    value = rng.randint(5, 90)
    return {"duration": f"{value}秒", "seconds": str(value)}


def en_duration(rng: random.Random) -> Slots:
    style = rng.random()
    unit, scale, last = (
        ("minute", 60, 60)
        if style < 0.65
        else ("hour", 3600, 12)
        if style < 0.85
        else ("second", 1, 90)
    )
    value = rng.choice((rng.randint(1, last), rng.choice((5, 10, 12))))
    said = _EN_NUMBERS[value] if value <= 12 and rng.random() < 0.35 else str(value)
    plural = "" if value == 1 else "s"
    return {
        "duration": f"{said} {unit}{plural}",
        "duration_adj": f"{said}-{unit}",
        "seconds": str(value * scale),
    }
