"""Commands become typed actions, or questions; nothing is guessed in silence."""

from __future__ import annotations

import io
import json
from datetime import date, datetime, timedelta

import pytest
from llguidance import LLMatcher

from miao_client.examples.assistant import Agenda, Assistant, Repeat, Unclear, chinese, english
from miao_client.examples.assistant import __main__ as program
from miao_client.examples.assistant import actions as a
from miao_client.examples.assistant.kinds import KINDS, fields_format, kind_format
from miao_client.examples.assistant.questions import REASONS, question
from miao_client.examples.assistant.session import Session
from miao_client.examples.assistant.spans import any_stretch, likely_stretch, spans

NOW = datetime(2026, 3, 11, 10, 20)  # a Wednesday
TOMORROW_7 = datetime(2026, 3, 12, 7)


def reason(understanding):
    assert isinstance(understanding.result, Unclear)
    assert understanding.action is None
    assert understanding.result.question
    return understanding.result.reason


@pytest.mark.parametrize(
    ("command", "kind", "fields", "action"),
    [
        (
            "帮我设置明天的早晨7点提醒",
            "set_reminder",
            '"day": "明天", "time": "07:00"',
            a.SetReminder(TOMORROW_7),
        ),
        (
            "Remind me to buy milk at 7 am tomorrow.",
            "set_reminder",
            '"day": "tomorrow", "time": "07:00", "text": "buy milk"',
            a.SetReminder(TOMORROW_7, "buy milk"),
        ),
        (
            "每天早上7点叫我起床",
            "set_alarm",
            '"day": "每天", "time": "07:00"',
            a.SetAlarm(TOMORROW_7, Repeat.DAILY),
        ),
        (
            "remind me in 20 minutes to check the oven",
            "set_timer",
            '"duration": "20 minutes", "text": "check the oven"',
            a.SetTimer(timedelta(minutes=20), "check the oven"),
        ),
        (
            "取消明天早上7点的提醒",
            "cancel_reminder",
            '"day": "明天", "time": "07:00"',
            a.CancelReminder(at=TOMORROW_7),
        ),
        (
            "Delete tomorrow's alarm",
            "cancel_alarm",
            '"day": "tomorrow"',
            a.CancelAlarm(day=date(2026, 3, 12)),
        ),
        (
            "明天早上7点开会，记到日程里",
            "add_event",
            '"day": "明天", "time": "07:00", "text": "开会"',
            a.AddEvent(TOMORROW_7, "开会"),
        ),
        (
            "明天上海天气怎么样",
            "weather",
            '"place": "上海", "day": "明天"',
            a.TellWeather("上海", date(2026, 3, 12)),
        ),
        (
            "把空调调到26度",
            "set_level",
            '"device": "空调", "level": 26',
            a.SetLevel("空调", 26),
        ),
        (
            "苹果用英语怎么说",
            "translate",
            '"text": "苹果", "to": "en"',
            a.Translate("苹果", "en"),
        ),
        (
            "Text Anna that I am late",
            "send_message",
            '"who": "Anna", "text": "I am late"',
            a.SendMessage("Anna", "I am late"),
        ),
        ("Turn on the lamp", "turn_on", '"device": "the lamp"', a.TurnOn("the lamp")),
        ("现在几点", "tell_time", "", a.TellTime()),
        ("你好", "none", "", a.NoAction()),
    ],
)
def test_a_command_becomes_its_action(client, say_action, command, kind, fields, action):
    say_action(kind, fields)
    understanding = Assistant(client).understand(command, NOW)
    assert understanding.action == action
    assert understanding.kind == action.kind == kind
    assert understanding.probability == pytest.approx(0.99)
    assert not client.answers


@pytest.mark.parametrize(
    ("command", "kind", "fields", "expected"),
    [
        ("明天提醒我买牛奶", "set_reminder", "", "no_time"),
        ("给我定时", "set_timer", "", "no_duration"),
        ("把空调调高", "set_level", "", "no_level"),
        ("2月30号上午八点提醒我", "set_reminder", "", "which_day_or_time"),
        ("周末上午八点提醒我", "set_reminder", "", "which_day_or_time"),
        ("明天8点提醒我", "set_reminder", '"day": "明天", "time": "08:00"', "which_half"),
        ("Wake me at 7", "set_alarm", '"time": "07:00"', "which_half"),
        ("今天早上7点提醒我", "set_reminder", '"day": "今天", "time": "07:00"', "passed"),
        ("明天早上7点提醒我", "set_reminder", '"time": "07:00"', "which_day_or_time"),
        ("明天早上7点提醒我", "set_reminder", '"day": "明天"', "no_time"),
        ("取消明天早上7点的提醒", "cancel_reminder", '"day": "明天"', "unsure"),
        ("打个电话", "call", '"who": ""', "no_who"),
        ("Play", "play_music", '"what": " "', "no_what"),
        ("0分钟的倒计时", "set_timer", '"duration": "0分钟"', "no_duration"),
    ],
)
def test_what_is_missing_or_open_is_asked(client, say_action, command, kind, fields, expected):
    say_action(kind, fields)
    assert reason(Assistant(client).understand(command, NOW)) == expected


def test_the_half_of_today_that_is_left_is_no_guess(client, say_action):
    say_action("set_reminder", '"day": "今天", "time": "03:00"')
    understanding = Assistant(client).understand("今天3点提醒我", NOW)
    assert understanding.action == a.SetReminder(datetime(2026, 3, 11, 15))


def test_an_unlikely_kind_is_not_carried_out(client, say_action):
    say_action("turn_on", probability=0.5)
    assert reason(Assistant(client).understand("灯啊", NOW)) == "unsure"
    say_action("turn_on", '"device": "灯"', probability=0.5)
    assert Assistant(client, least_probability=0.4).understand("开灯", NOW).action


def test_unlikely_fields_need_a_second_answer_that_agrees(client, say_action):
    command = "五月一号早上9点提醒我出发"
    when = '"day": "五月一号", "time": "09:00"'
    say_action("set_reminder", when + ', "text": "发"', sure=0.01)
    client.say('{"action": "set_reminder", ' + when + ', "text": "出发"}')
    action = Assistant(client).understand(command, NOW).action
    assert action == a.SetReminder(datetime(2026, 5, 1, 9), "出发")
    assert "出发" in client.requests[-1][1]["response_format"].lark
    for disagreeing in ('"text": "早"', '"day": "五月一号"'):
        say_action("set_reminder", when + ', "text": "发"', sure=0.01)
        client.say('{"action": "set_reminder", "time": "09:00", ' + disagreeing + "}")
        assert reason(Assistant(client).understand(command, NOW)) == "unsure"


def test_a_likely_copy_that_ends_within_a_word_is_asked_again(client, say_action):
    say_action("weather", '"place": "海", "day": "今天"', sure=0.7)
    client.say('{"action": "weather", "place": "上海", "day": "今天"}')
    action = Assistant(client).understand("今天上海的天气怎么样", NOW).action
    assert action == a.TellWeather("上海", NOW.date())
    say_action("weather", '"place": "海", "day": "今天"', sure=0.9)  # sure enough by itself
    assert Assistant(client).understand("今天上海的天气怎么样", NOW).action.place == "海"


def test_an_answer_that_was_cut_short_is_not_carried_out(client):
    client.say('{"action": "turn_on')
    client.say('{"action": "turn_on", "devi', reason="length")
    assert reason(Assistant(client).understand("开灯", NOW)) == "unsure"
    client.say('{"acti', reason="length")
    assert reason(Assistant(client).understand("开灯", NOW)) == "unsure"


def test_nothing_and_too_much_are_not_even_asked(client):
    assert reason(Assistant(client).understand("  ", NOW)) == "empty"
    assert reason(Assistant(client).understand("啊" * 301, NOW)) == "too_long"
    assert not client.requests


def test_the_model_is_asked_greedily_with_what_occurs_in_the_command(client, say_action):
    say_action("set_reminder", '"day": "明天", "time": "07:00"')
    Assistant(client, model="m").understand("明天早上7点\n提醒我", NOW)
    (messages, first), (_, second) = client.requests
    assert [message.role for message in messages] == ["system", "user"]
    assert messages[1].content == "明天早上7点 提醒我"
    assert first["response_format"] == kind_format()
    assert (second["temperature"], second["model"], second["logprobs"]) == (0, "m", 0)
    grammar = second["response_format"].lark
    assert '"明天"' in grammar
    assert '"07:00"' in grammar
    assert "19:00" not in grammar


@pytest.mark.parametrize("stretch", [any_stretch, likely_stretch])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "command",
    ["明天早上7点，把空调调到26度，20分钟后说“嗨”", 'Say "a\\b" at 7 am tomorrow, in 2 hours'],
)
def test_every_format_is_a_grammar(kind, command, stretch):
    language = chinese if "明天" in command else english
    made = fields_format(kind, stretch(command), language.read(command, NOW))
    if made is not None:
        is_error, messages = LLMatcher.validate_grammar_with_warnings(made.lark)
        assert not is_error, messages


def test_words_are_copied_as_words_and_never_break_the_json():
    def copied(command):
        return json.loads(any_stretch(command).removeprefix("%regex "))

    assert copied("turn on the lamp") == {"substring_words": "turn on the lamp"}
    assert copied("开灯") == {"substring_chars": "开灯"}
    assert copied('a "b" \\\x07c') == {"substring_words": "a  b    c"}


@pytest.mark.parametrize(
    ("command", "span"),
    [
        ("下周一上午十点要开部门会，到时候提醒我一声", "开部门会"),
        ("每周一早上八点半提醒我开例会", "开例会"),
        ("发消息给李娜，说我已经到家了", "我已经到家了"),
        ("把客厅的灯打开", "客厅的灯"),
        ("Remind me to buy milk at 7 am tomorrow.", "buy milk"),
        ("Text Victor that the train is late", "the train is late"),
    ],
)
def test_likely_stretches_end_where_words_do(command, span):
    assert span in spans(command)


def test_no_likely_stretch_ends_within_a_word():
    assert "开例" not in spans("每周一早上八点半提醒我开例会")
    assert "buy mil" not in spans("Remind me to buy milk at 7 am tomorrow.")


def test_every_question_is_there_in_both_languages():
    for each in REASONS:
        assert question(each, "zh", "X") != question(each, "en", "X")


def test_actions_are_plain_json():
    made = a.SetReminder(TOMORROW_7, "开会", Repeat.DAILY).as_json()
    assert json.loads(json.dumps(made)) == {
        "action": "set_reminder",
        "at": "2026-03-12T07:00",
        "text": "开会",
        "repeat": "daily",
    }
    assert a.SetTimer(timedelta(minutes=2)).as_json()["duration"] == 120
    assert a.TellWeather("北京", date(2026, 3, 12)).as_json()["day"] == "2026-03-12"


def test_the_agenda_keeps_and_drops_entries():
    agenda = Agenda()
    first, second = (
        a.SetReminder(TOMORROW_7, "开会"),
        a.SetReminder(TOMORROW_7 + timedelta(hours=2)),
    )
    alarm = a.SetAlarm(TOMORROW_7, Repeat.WEEKDAYS)
    for action in (first, second, alarm):
        agenda.perform(action, "zh", NOW)
    assert "已取消" in agenda.perform(a.CancelReminder(at=TOMORROW_7), "zh", NOW)
    assert agenda.entries == [second, alarm]
    assert "no such" in agenda.perform(a.CancelReminder(at=TOMORROW_7), "en", NOW)
    agenda.perform(a.CancelAlarm(day=TOMORROW_7.date()), "en", NOW)
    assert agenda.entries == [second]
    agenda.perform(a.CancelReminder(), "en", NOW)
    assert agenda.entries == []


def test_what_was_done_is_said_with_its_whole_date():
    agenda = Agenda()
    said = agenda.perform(a.SetReminder(TOMORROW_7, "开会", Repeat.DAILY), "zh", NOW)
    assert said == "好的，提醒2026年3月12日（周四）07:00，每天重复：开会"
    said = agenda.perform(a.SetReminder(TOMORROW_7, "call Bob"), "en", NOW)
    assert said == "Done: a reminder, Thu 2026-03-12 07:00: call Bob"
    assert agenda.perform(a.TellTime(), "en", NOW) == "It is Wed 2026-03-11 10:20."
    assert agenda.perform(a.TurnOn("灯"), "zh", NOW) == "[turn_on: device=灯]"


@pytest.fixture
def session(client):
    return Session(client, Assistant(client), Agenda())


def say(session, said):
    return "".join(session.respond(said, NOW))


def test_a_moment_alone_joins_the_command_that_lacked_it(client, say_action, session):
    say_action("set_reminder")
    assert say(session, "明天提醒我买牛奶") == "请问几点？"
    say_action("set_reminder", '"day": "明天", "time": "08:00", "text": "买牛奶"')
    assert "08:00：买牛奶" in say(session, "早上八点吧")
    assert client.requests[1][0][1].content == "明天提醒我买牛奶，早上八点吧"


def test_anything_else_after_a_question_stands_for_itself(client, say_action, session):
    say_action("set_reminder")
    say(session, "Remind me tomorrow")
    say_action("turn_on", '"device": "the lamp"')
    assert say(session, "Turn on the lamp") == "[turn_on: device=the lamp]"
    say_action("none")
    client.say("It is late.")
    say(session, "at 8 am")  # the question is no longer open
    assert client.requests[-1][0][0].content == "at 8 am"


def test_talk_is_answered_in_words_and_does_nothing(client, say_action, session):
    say_action("none")
    client.say("你好，很高兴见到你！")
    assert say(session, "你好") == "你好，很高兴见到你！"
    assert session.last.action == a.NoAction()


def run(monkeypatch, client, *arguments, stdin=None):
    class Opened:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return client

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(program, "Client", Opened)
    monkeypatch.setattr("sys.argv", ["assistant", "--now", "2026-03-11T10:20", *arguments])
    if stdin is not None:
        monkeypatch.setattr("sys.stdin", stdin)
    program.main()


def test_the_program_talks_and_keeps_a_transcript(
    client, say_action, monkeypatch, tmp_path, capsys
):
    say_action("set_reminder", '"day": "明天", "time": "07:00"')
    transcript = tmp_path / "talk.jsonl"
    run(monkeypatch, client, "--transcript", str(transcript), "明天早上7点提醒我", "/list")
    assert capsys.readouterr().out.splitlines() == [
        "› 明天早上7点提醒我",
        "好的，提醒2026年3月12日（周四）07:00",
        "› /list",
        "  提醒2026年3月12日（周四）07:00",
    ]
    (entry,) = map(json.loads, transcript.read_text("utf-8").splitlines())
    assert entry["action"]["at"] == "2026-03-12T07:00"
    assert entry["reply"].startswith("好的")


def test_the_program_prints_an_action_for_each_line(client, say_action, monkeypatch, capsys):
    say_action("tell_time")
    say_action("set_reminder")
    run(monkeypatch, client, "--json", stdin=io.StringIO("几点了\n\n明天提醒我\n"))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["action"] == {"action": "tell_time"}
    assert second["action"] is None
    assert second["question"] == "请问几点？"
