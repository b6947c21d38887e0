"""The moments that a Chinese command mentions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import TypeVar

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
from miao_client.examples.assistant.numbers import HAN_NUMBER as N
from miao_client.examples.assistant.numbers import han_number

_Made = TypeVar("_Made")

_PARTS = {
    "凌晨": "dawn",
    **dict.fromkeys(("清晨", "早晨", "早上", "上午", "今早", "明早", "每早"), "morning"),
    "中午": "noon",
    **dict.fromkeys(("下午", "傍晚"), "afternoon"),
    **dict.fromkeys(("晚上", "夜里", "深夜", "半夜", "今晚", "明晚", "每晚", "今夜"), "night"),
}
_PART = re.compile("|".join(_PARTS))
_CLOCK = re.compile(
    rf"(?:(?P<part>{_PART.pattern})的?|(?P<short>[早晚]))?"
    rf"(?<![\d:：.])(?P<hour>\d{{1,2}}|[零〇一二两三四五六七八九十]{{1,3}})"
    r"(?:[:：](?P<digits>\d{2})(?!\d)|(?:点钟|点整|点|时(?![间候常]))(?P<minute>半|[一三]刻"
    r"|(?:\d{1,2}|[零〇一二三四五六七八九十]{1,3})分(?!钟)|\d{2}(?![\d个件位人瓶本])"
    r"|[零〇][一二三四五六七八九]|[二三四五]?十[一二三四五六七八九]?(?![个件位人瓶本]))?)"
)
_WEEKDAYS = {name: index for index, name in enumerate("一二三四五六日")} | {"天": 6}
_NEAR = {"今": 0, "明": 1, "后": 2, "大": 3}
_WEEK = r"(?:周|星期|礼拜)"
_DAY = re.compile(
    r"(?P<full>(?:20\d\d)[-/年]\d{1,2}[-/月]\d{1,2}[日号]?)"
    rf"|(?P<of_month>(?:这个月|本月|下个月|下月){N}[日号])"
    rf"|(?P<in_year>{N}月{N}[日号]?)"
    rf"|(?P<later>{N}个?(?:天|{_WEEK})[之以]?后)"
    rf"|(?P<weekly>每个?{_WEEK}[一二三四五六日天])"
    rf"|(?P<weekday>(?:(?:下下|(?<!一)下|这|本)个?)?{_WEEK}[一二三四五六日天])"
    r"|(?P<weekdays>每?个?工作日)"
    r"|(?P<daily>每天|每日|天天|每晚|每早)"
    r"|(?P<near>大后天|后天|[明今](?:天|日|早|晚|夜|儿))"
    rf"|(?P<day>(?<![月\d])(?:\d{{1,2}}日|{N}号(?![线楼院门房店码])))"
    rf"|(?P<open>大?前天|昨[天日晚]|周末|(?<!加)上+个?(?:{_WEEK}|月)|(?<!一)下+个?(?:{_WEEK}|月)|月[底初中末]"
    r"|年[底初]|[明后]年|过[几两]天|改天|几天后|春节|国庆|元旦|中秋|圣诞|端午|清明|除夕|情人节)"
)
_LENGTH = re.compile(
    rf"(?P<number>{N}|半)(?P<half>个半|个)?(?P<unit>小时|钟头|刻钟|分钟|秒钟|秒)(?P<more>半(?![个分小]))?"
)
_SECONDS = {"小时": 3600, "钟头": 3600, "刻钟": 900, "分钟": 60, "秒钟": 1, "秒": 1}
_SMALL = re.compile("[的在吧呢啊嗯是就那后，。！？,.!? ]|就是|那就|好的|应该|早|晚")
_LONE_MINUTE = re.compile("[2-9二三四五六七八九](?![个件位人瓶本号楼层岁年月日天])")
_BEFORE_A_LITTLE = "早晚快慢大小多少有高低差"
_LESS = re.compile(r"差[一二两三四五六七八九十\d]{1,3}分|差一刻")


MOMENTS = (_CLOCK, _DAY, _LENGTH, _PART)


def read(command: str, now: datetime) -> Mentions:
    """All moments that the command mentions."""
    unreadable = [UnreadableError(found[0]) for found in _LESS.finditer(command)]
    days = list(_each(_DAY, command, lambda found: _day(found, now.date()), unreadable))
    parts = {_PARTS[found[0]] for found in _PART.finditer(command)}
    only = parts.pop() if len(parts) == 1 else ""
    clocks = list(_each(_CLOCK, command, lambda found: _clock(found, command, only), unreadable))
    return Mentions(
        days=tuple(days),
        clocks=tuple(clock for clock in clocks if clock is not None),
        lengths=tuple(_lengths(command)),
        numbers=tuple(int(digits) for digits in re.findall(r"\d{1,4}", command)),
        unreadable=unreadable_words(unreadable, days),
    )


def without_moments(command: str) -> str:
    """What a command says besides moments and the small words around them."""
    for pattern in (*MOMENTS, _SMALL):
        command = pattern.sub("", command)
    return command


def _each(
    pattern: re.Pattern[str],
    command: str,
    make: Callable[[re.Match[str]], _Made],
    unreadable: list[UnreadableError],
) -> Iterator[_Made]:
    for found in pattern.finditer(command):
        try:
            yield make(found)
        except UnreadableError as failure:
            failure.said = found[0]
            unreadable.append(failure)


def _clock(found: re.Match[str], command: str, only_part: str) -> Clock | None:
    hour = found["hour"]
    before, after = command[: found.start("hour")][-1:], command[found.end() :][:1]
    if (
        hour == "一"
        and found["digits"] is None
        and ((before in "早晚快慢大小多少有高低差" and before) or (after in "点儿" and after))
    ):
        return None  # "a little", not one o'clock
    if not (found["digits"] or found["minute"]) and _LONE_MINUTE.match(command, found.end()):
        raise UnreadableError(found[0])  # 三点五: minutes, or what comes next?
    part = found["part"]
    named = _PARTS[part] if part else {"早": "morning", "晚": "night"}.get(found["short"] or "", "")
    minute = _minute(found["digits"] or found["minute"] or "")
    times = clock_times(
        han_number(hour), minute, named or only_part, is_exact=hour[0] == "0" and len(hour) == 2
    )
    return Clock(found[0], times)


def _minute(said: str) -> int:
    match said:
        case "":
            return 0
        case "半":
            return 30
        case "一刻" | "三刻":
            return 15 if said[0] == "一" else 45
        case _:
            return han_number(said.rstrip("分").lstrip("零〇") or "零")


def _day(found: re.Match[str], today: date) -> Day:
    said = found[0]
    match found.lastgroup:
        case "full":
            year, month, day = (int(number) for number in re.findall(r"\d+", said))
            return Day((said,), date_of(year, month, day, said))
        case "of_month" | "in_year" | "day":
            return _date(found, today)
        case "later":
            number = han_number(re.match(N, said)[0])  # type: ignore[index]
            days = number if "天" in said[-3:] and "周" not in said else number * 7
            return Day((said,), today + timedelta(days=days))
        case "weekly":
            first = next_weekday(today, _WEEKDAYS[said[-1]])
            return Day((said,), first, Repeat.WEEKLY, 7)
        case "weekday":
            return _weekday(said, today)
        case "weekdays":
            first = today if today.weekday() < 5 else next_weekday(today, 0)
            return Day(different("工作日", said), first, Repeat.WEEKDAYS, 1)
        case "daily":
            return Day(different("每天", said), today, Repeat.DAILY, 1)
        case "near":
            name = said if said.endswith("后天") else said[0] + "天"
            return Day(different(name, said), today + timedelta(days=_NEAR[said[0]]))
        case _:
            raise UnreadableError(said, is_open=True)


def _date(found: re.Match[str], today: date) -> Day:
    said = found[0]
    numbers = [han_number(number) for number in re.findall(N, re.sub("^.*个?月(?=.*月)", "", said))]
    if found.lastgroup == "in_year":
        month, day = numbers
        return Day((said,), date_of(today.year, month, day, said), next_year=True)
    ahead = found.lastgroup == "of_month" and said.startswith("下")
    if found.lastgroup == "day" and numbers[0] < today.day:
        ahead = True
    year, month = divmod(today.month - 1 + ahead, 12)
    return Day((said,), date_of(today.year + year, month + 1, numbers[-1], said))


def _weekday(said: str, today: date) -> Day:
    weekday = _WEEKDAYS[said[-1]]
    if said[0] in "下这本":
        weeks = said.count("下")
        names = different(said.replace("个", ""), said)
        return Day(names, weekday_of_week(today, weekday, weeks))
    return Day((said,), next_weekday(today, weekday), step_days=7)


def _lengths(command: str) -> Iterator[Length]:
    """Lengths of time; units that follow each other are one, as in 1小时30分钟."""
    said, seconds, end = "", 0.0, -1
    for found in _LENGTH.finditer(command):
        if said and found.start() != end:
            yield Length((said,), timedelta(seconds=seconds))
            said, seconds = "", 0.0
        said, seconds, end = said + found[0], seconds + _seconds(found), found.end()
    if said:
        yield Length((said,), timedelta(seconds=seconds))


def _seconds(found: re.Match[str]) -> float:
    number = 0.5 if found["number"] == "半" else float(han_number(found["number"]))
    number += 0.5 * (found["half"] == "个半") + 0.5 * bool(found["more"])
    return number * _SECONDS[found["unit"]]
