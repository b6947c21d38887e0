"""What the command prints."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime

import pytest

from miao_client import BusyError, FieldViolation, InvalidRequestError, LimitViolation
from miao_client.cli import output
from miao_client.cli.models import _short
from miao_client.results import FinishReason, Usage


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        return True


def test_an_error_says_fields_and_limits() -> None:
    violations = [FieldViolation("spec.stop", "at most 16")]
    assert output.sentence(InvalidRequestError("Wrong.", violations=violations)) == (
        "Wrong. spec.stop: at most 16"
    )
    busy = BusyError("Busy.", retry_after=1.5, limits=[LimitViolation("model:m", "is full")])
    assert output.sentence(busy) == "Busy. model:m: is full. Try again in 1.5 s."


def test_a_detail_in_the_message_is_not_said_twice() -> None:
    error = InvalidRequestError(
        "spec.stop: at most 16", violations=[FieldViolation("spec.stop", "at most 16")]
    )
    assert output.sentence(error) == "spec.stop: at most 16"


def test_a_model_cannot_steer_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    output.write_text("为\x1b[2J\x07\r什\x9b么\t\n")
    assert screen.getvalue() == "为[2J什么\t\n"


def test_a_pipe_gets_the_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_text("\x1b[2J")
    assert capsys.readouterr().out == "\x1b[2J"


def test_json_is_made_of_results(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_json([Usage(1, 2, 3), datetime(2030, 1, 1, tzinfo=UTC), FinishReason.STOP, "为"])
    printed = capsys.readouterr().out
    assert "为" in printed
    assert json.loads(printed) == [
        {"prompt_tokens": 1, "cached_prompt_tokens": 2, "output_tokens": 3},
        "2030-01-01T00:00:00+00:00",
        "stop",
        "为",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1K"), (4_940_000, "4.94M"), (7_240_000_000, "7.24B")],
)
def test_counts_are_short(number: int, text: str) -> None:
    assert _short(number) == text
