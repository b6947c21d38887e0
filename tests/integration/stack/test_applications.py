"""The applications and the short examples on the bundled model, through the whole stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import pytest

from miao_client import Client
from miao_client.examples.assistant import Assistant, Unclear
from miao_client.examples.assistant import actions as a
from miao_client.examples.classification import classify, probabilities
from miao_client.examples.continuation import continue_text
from miao_client.examples.desk import Desk, Reason
from miao_client.examples.translation import translate
from miao_worker.bundled import bundled_model_path
from miao_worker.stack import StackSettings
from tests.forked_worker import ForkingStack

from .conftest import WORKER_OPTIONS

NOW = datetime(2026, 3, 11, 10, 20)
TOMORROW_7 = datetime(2026, 3, 12, 7)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    options = ["--model", str(bundled_model_path()), *WORKER_OPTIONS]
    stack = ForkingStack(StackSettings("127.0.0.1:0", options), lambda *_: None)
    stack.start()
    yield stack.address
    stack.stop()


@pytest.fixture
def bundled(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.mark.parametrize(
    ("command", "action"),
    [
        ("帮我设置明天的早晨7点提醒", a.SetReminder(TOMORROW_7)),
        ("Remind me to buy milk at 7 am tomorrow.", a.SetReminder(TOMORROW_7, "buy milk")),
        ("取消明天早上七点的提醒", a.CancelReminder(at=TOMORROW_7)),
        ("What time is it?", a.TellTime()),
        ("你好", a.NoAction()),
    ],
)
def test_a_command_becomes_an_action(bundled: Client, command: str, action: a.Action) -> None:
    understanding = Assistant(bundled).understand(command, NOW)
    assert understanding.action == action
    assert understanding.probability > 0.6


def test_a_command_without_its_time_is_asked_about(bundled: Client) -> None:
    understanding = Assistant(bundled).understand("明天提醒我买牛奶", NOW)
    assert understanding.result == Unclear("no_time", "请问几点？")


@pytest.mark.parametrize(
    ("question", "words", "request_of_a_person"),
    [
        ("为什么我的手机没有信号？", ("SIM", "飞行模式", "重启"), "我要转人工"),
        ("Why does my phone have no signal?", ("SIM", "airplane", "restart"), "I want a person!"),
    ],
)
def test_the_desk_replies_and_then_brings_a_person(
    bundled: Client, question: str, words: tuple[str, ...], request_of_a_person: str
) -> None:
    desk = Desk(bundled)
    pieces = list(desk.stream(question))
    assert len(pieces) > 5
    assert any(word in "".join(pieces) for word in words)
    assert desk.handover is None
    answer = desk.answer(request_of_a_person)
    assert answer.handover is not None
    assert answer.handover.reason is Reason.ASKED_OR_NEEDED
    assert answer.handover.messages[0].content == question


def test_the_assistant_runs_as_a_program(address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "miao_client.examples.assistant", "--json", "--target", address]
        + ["--now", "2026-03-11T10:20"],
        input="帮我设置明天的早晨7点提醒\n",
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    assert said["action"] == {
        "action": "set_reminder",
        "at": "2026-03-12T07:00",
        "text": "",
        "repeat": "once",
    }


def test_the_short_examples_run(bundled: Client) -> None:
    beginning = "你好，这是我的第一篇博客。"
    continuation = "".join(continue_text(bundled, beginning, 40, seed=1))
    assert len(bundled.tokenize(continuation).token_ids) >= 30  # some may join when cut anew
    labels = ["物流", "退款", "密码"]
    assert classify(bundled, "我的快递到哪了？", labels) == "物流"
    found = probabilities(bundled, "我的快递到哪了？", labels)
    assert max(found, key=lambda label: found[label]) == "物流"
    assert sum(found.values()) == pytest.approx(1)
    assert "".join(translate(bundled, "你好", "English"))  # no translation: the model is too small
