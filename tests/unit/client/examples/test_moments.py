"""Days, times and lengths of time are read strictly, in both languages."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

import pytest

from miao_client.examples.assistant import chinese, english
from miao_client.examples.assistant.actions import Repeat
from miao_client.examples.assistant.moments import Mentions, moment
from miao_client.examples.language import language_of

NOW = datetime(2026, 3, 11, 10, 20)  # a Wednesday


def read(command: str, now: datetime = NOW) -> Mentions:
    return (chinese if language_of(command) == "zh" else english).read(command, now)


def first_moment(command: str, now: datetime = NOW) -> str | None:
    """The moment that a command means, where it means one."""
    mentions = read(command, now)
    assert not mentions.unreadable
    (clock,) = mentions.clocks
    (at,) = clock.times
    found = moment(mentions.days[0] if mentions.days else None, at, now)
    return found.isoformat(timespec="minutes") if found else None


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("明天的早晨7点", "2026-03-12T07:00"),
        ("明天早上七点半", "2026-03-12T07:30"),
        ("后天下午三点一刻", "2026-03-13T15:15"),
        ("大后天晚上10点05分", "2026-03-14T22:05"),
        ("今晚八点二十", "2026-03-11T20:20"),
        ("明早6点", "2026-03-12T06:00"),
        ("周五中午十二点", "2026-03-13T12:00"),
        ("周三上午九点", "2026-03-18T09:00"),  # today's has passed
        ("周三晚上九点", "2026-03-11T21:00"),
        ("这周五上午十点整", "2026-03-13T10:00"),
        ("下周一上午十点", "2026-03-16T10:00"),
        ("下下周日下午两点", "2026-03-29T14:00"),
        ("3月20号15:30", "2026-03-20T15:30"),
        ("三月一日上午8点", "2027-03-01T08:00"),
        ("十二月二十五号晚上7点", "2026-12-25T19:00"),
        ("5号下午1点", "2026-04-05T13:00"),
        ("下个月1号上午九点", "2026-04-01T09:00"),
        ("2026年5月4日18点", "2026-05-04T18:00"),
        ("三天后上午十一点", "2026-03-14T11:00"),
        ("两周后凌晨2点", "2026-03-25T02:00"),
        ("每天早上6点", "2026-03-12T06:00"),
        ("每周日下午5点", "2026-03-15T17:00"),
        ("工作日早上7点", "2026-03-12T07:00"),
        ("早上7点", "2026-03-12T07:00"),
        ("晚7点", "2026-03-11T19:00"),
        ("07:30", "2026-03-12T07:30"),
        ("加一个周二的下午4点", "2026-03-17T16:00"),
        ("取消一下周二下午4点", "2026-03-17T16:00"),
        ("7 am tomorrow", "2026-03-12T07:00"),
        ("tomorrow at 7:45 p.m.", "2026-03-12T19:45"),
        ("at half past eight tonight", "2026-03-11T20:30"),
        ("at quarter to seven on Sunday evening", "2026-03-15T18:45"),
        ("ten past nine in the morning", "2026-03-12T09:10"),
        ("next Monday at ten in the morning", "2026-03-16T10:00"),
        ("this Friday at 12 pm", "2026-03-13T12:00"),
        ("at seven thirty on Friday morning", "2026-03-13T07:30"),
        ("April 1 at 9am", "2026-04-01T09:00"),
        ("on the 5th of January at 8 pm", "2027-01-05T20:00"),
        ("on the 20th at noon", "2026-03-20T12:00"),
        ("in 3 days at 14:00", "2026-03-14T14:00"),
        ("every Monday at 8 am", "2026-03-16T08:00"),
        ("weekdays at 12 am", "2026-03-12T00:00"),
        ("the day after tomorrow at 3 o'clock in the afternoon", "2026-03-13T15:00"),
    ],
)
def test_a_moment_is_found(command, expected):
    assert first_moment(command) == expected


@pytest.mark.parametrize("command", ["今天早上7点", "this Monday at 9 am", "2026年3月11日上午8点"])
def test_what_has_passed_is_no_moment(command):
    assert first_moment(command) is None


@pytest.mark.parametrize(
    "command", ["3点提醒我", "明天8点半", "Remind me at 7", "on Friday at 3:30"]
)
def test_a_time_without_its_half_of_the_day_may_be_two(command):
    (clock,) = read(command).clocks
    early, late = clock.times
    assert late.hour - early.hour == 12


@pytest.mark.parametrize(
    "command",
    [
        *("2月30号上午八点", "明天二十七点", "13月1日上午8点", "差五分八点叫我", "今晚12点"),
        *("周末上午9点", "下周上午9点", "月底早上8点", "三点五提醒我", "明天晚上两点"),
        *("at 26:80", "on February 30 at 8 am", "at 15 pm", "at midnight", "at 2 at night"),
        *("next week at 9 am", "at the weekend at 10 am", "Monday after next at 8 am"),
    ],
)
def test_what_is_no_moment_or_an_open_one_is_said(command):
    assert read(command).unreadable


def test_an_open_day_beside_a_clear_one_is_no_doubt():
    assert not read("明天早上9点提醒我写上周的周报").unreadable
    assert not read("Remind me to plan the weekend at 9 am tomorrow").unreadable


@pytest.mark.parametrize(
    "command",
    [
        *("声音小一点", "快一点", "便宜一点点", "现在几点了", "买两个鸡蛋", "订单号是12345"),
        *("buy 3 apples", "call 5 people", "turn it to 20 degrees", "What time is it?", "room 12"),
    ],
)
def test_other_numbers_are_no_times(command):
    mentions = read(command)
    assert not mentions.clocks
    assert not mentions.days
    assert not mentions.unreadable


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        ("25分钟后提醒我", 1500),
        ("一个半小时", 5400),
        ("半个小时", 1800),
        ("两小时半", 9000),
        ("1小时30分钟", 5400),
        ("三刻钟", 2700),
        ("九十秒", 90),
        ("in 20 minutes", 1200),
        ("half an hour", 1800),
        ("an hour and a half", 5400),
        ("two and a half hours", 9000),
        ("1 hour and 15 minutes", 4500),
        ("a quarter of an hour", 900),
        ("a 12-second timer", 12),
        ("0.5 hours", 1800),
    ],
)
def test_a_length_of_time_is_found(command, seconds):
    (length,) = read(command).lengths
    assert length.duration == timedelta(seconds=seconds)


def test_the_model_may_write_a_day_as_it_was_taught():
    assert read("今晚8点").days[0].names == ("今天", "今晚")
    assert read("Every Monday at 8 am").days[0].names == ("every Monday", "Every Monday")
    assert read("a 12-second timer").lengths[0].names[0] == "12 seconds"


def test_what_repeats_says_so():
    assert [read(c).days[0].repeat for c in ("每天早上6点", "daily at 6 am")] == [Repeat.DAILY] * 2
    assert read("每周五").days[0].repeat is Repeat.WEEKLY
    assert read("工作日").days[0].repeat is Repeat.WEEKDAYS
    friday_noon = datetime(2026, 3, 13, 12)
    day = read("every weekday", friday_noon).days[0]
    assert moment(day, time(8), friday_noon) == datetime(2026, 3, 16, 8)


def test_a_leap_day_is_looked_for_on_the_calendar():
    assert read("2月29日上午8点").unreadable
    assert read("2月29日", datetime(2028, 1, 1)).days[0].date == date(2028, 2, 29)


@pytest.mark.parametrize(
    ("said", "is_moment"),
    [
        ("早上八点吧", True),
        ("明天下午", True),
        ("tomorrow at 8 am, please", True),
        ("in the evening", True),
        ("打开客厅的灯", False),
        ("早上八点叫我起床", False),
        ("Call Anna at 8", False),
    ],
)
def test_a_moment_alone_is_told_from_a_command(said, is_moment):
    language = chinese if language_of(said) == "zh" else english
    assert (not language.without_moments(said)) is is_moment
