"""The desk replies, remembers, and hands over where it is not sure."""

from __future__ import annotations

import io
import json

import pytest

from miao_client import UnavailableError
from miao_client.examples.desk import Desk, Policy, Reason, Route
from miao_client.examples.desk import __main__ as program


def route(topic="network", handover=False):
    return json.dumps({"topic": topic, "handover": handover})


@pytest.fixture
def desk(client):
    return Desk(client)


def test_a_reply_is_streamed_in_pieces_and_remembered(client, desk):
    client.say(route())
    client.say("请重启手机。")
    assert list(desk.stream("手机没有信号")) == ["请重启", "手机。"]
    assert desk.last.topic == "network"
    assert desk.last.handover is None
    client.say(route("thanks"))
    client.say("不客气。")
    assert desk.answer("谢谢").text == "不客气。"
    roles = [message.role for message in desk.history]
    assert roles == ["user", "assistant"] * 2
    messages, _ = client.requests[-1]
    assert [m.content for m in messages[1:]] == ["手机没有信号", "请重启手机。", "谢谢"]


def test_the_route_is_asked_as_a_typed_answer_with_its_probability(client, desk):
    client.say(route("refund"), 0.9)
    client.say("好的。")
    answer = desk.answer("我要退款")
    assert answer.route_probability == pytest.approx(0.9)
    _, settings = client.requests[0]
    assert settings["response_format"] is Route
    assert (settings["temperature"], settings["logprobs"]) == (0, 0)


def test_who_asks_for_a_person_gets_one_without_a_reply(client, desk):
    client.say(route("human", True))
    told = []
    desk.on_handover = told.append
    answer = desk.answer("我要投诉")
    assert answer.handover.reason is Reason.ASKED_OR_NEEDED
    assert told == [answer.handover]
    assert told[0].topic == "human"
    assert told[0].messages[0].content == "我要投诉"
    assert len(client.requests) == 1


def test_an_unlikely_route_brings_a_person(client, desk):
    client.say(route(), 0.3)
    assert desk.answer("嗯嗯啊啊").handover.reason is Reason.UNSURE_OF_TOPIC


def test_an_unlikely_reply_is_followed_by_a_person(client, desk):
    client.say(route())
    client.say("Try this.", 0.1)
    pieces = list(desk.stream("No signal"))
    assert "".join(pieces).startswith("Try this.\nI am handing this")
    assert desk.last.handover.reason is Reason.UNSURE_OF_REPLY
    assert desk.last.token_probability == pytest.approx(0.1**0.5)


def test_a_reply_that_was_cut_short_brings_a_person(client, desk):
    client.say(route())
    client.say("First, please", reason="length")
    assert desk.answer("No signal").handover.reason is Reason.REPLY_CUT_SHORT


def test_the_policy_says_what_is_sure_enough(client):
    desk = Desk(client, Policy(least_route_probability=0.2, least_token_probability=0.05))
    client.say(route(), 0.3)
    client.say("Try this.", 0.1)
    assert desk.answer("No signal").handover is None


def test_while_a_person_is_there_the_model_is_silent(client, desk):
    client.say(route("human", True))
    desk.answer("Get me a person")
    first = desk.handover
    assert "colleague" in desk.answer("Are you there?").text
    assert len(client.requests) == 1
    assert [m.content for m in desk.handover.messages[: len(first.messages)]] == [
        m.content for m in first.messages
    ]
    assert desk.handover.messages[-2].content == "Are you there?"
    desk.take_back()
    client.say(route())
    client.say("Hello again.")
    assert desk.answer("No signal").text == "Hello again."


def test_old_turns_are_forgotten_where_the_prompt_would_be_too_long(client):
    desk = Desk(client, Policy(max_prompt_tokens=30))  # three messages of the fake
    for i in range(3):
        client.say(route())
        client.say(f"reply {i}")
        desk.answer(f"message {i}")
    messages, _ = client.requests[-1]
    assert [m.content for m in messages[1:]] == ["message 1", "reply 1", "message 2"]
    assert len(desk.history) == 6  # a person sees all of it


def test_a_message_that_failed_is_not_remembered(client, desk):
    client.answers.append(UnavailableError("gone"))
    with pytest.raises(UnavailableError):
        desk.answer("No signal")
    assert desk.history == []
    client.say(route())
    client.say("Restart it.")
    assert desk.answer("No signal").text == "Restart it."


@pytest.fixture
def opened(client, monkeypatch):
    class Opened:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return client

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(program, "Client", Opened)
    return monkeypatch


def test_the_program_reads_messages_and_keeps_a_transcript(client, opened, tmp_path, capsys):
    client.say(route())
    client.say("Restart it.")
    client.say(route("human", True))
    client.say(route())
    client.say("Hello.")
    transcript = tmp_path / "talk.jsonl"
    opened.setattr("sys.argv", ["desk", "--transcript", str(transcript)])
    opened.setattr("sys.stdin", io.StringIO("No signal\n\nA person!\n/back\nHi\n"))
    program.main()
    printed = capsys.readouterr().out
    assert "› No signal\nRestart it.\n› A person!\n" in printed
    assert "[to a person: the customer asks" in printed
    entries = [json.loads(line) for line in transcript.read_text("utf-8").splitlines()]
    assert [entry["customer"] for entry in entries] == ["No signal", "A person!", "Hi"]
    assert [bool(entry["handover"]) for entry in entries] == [False, True, False]


def test_the_program_ends_with_a_sentence_where_no_service_answers(client, opened, capsys):
    client.answers.append(UnavailableError("No answer from localhost:50051 in 5 seconds."))
    opened.setattr("sys.argv", ["desk", "Hello"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "miao: No answer from localhost:50051 in 5 seconds.\n"
