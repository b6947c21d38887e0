"""Formats: what the SDK sends, and what it makes of the answer."""

from __future__ import annotations

import dataclasses
import enum
import json
from typing import Any, Literal

import pydantic
import pytest

from miao.v1 import generation_pb2 as pb
from miao_client import Choices, Grammar, InvalidRequestError, JsonSchema, Regex
from miao_client.formats import ResponseFormat, parse, schema_of
from miao_client.options import submission


class Kind(enum.Enum):
    REMINDER = "reminder"
    CALL = "call"


@dataclasses.dataclass(frozen=True)
class Time:
    hour: int
    minute: int


@dataclasses.dataclass(frozen=True)
class Action:
    kind: Kind
    at: Time | None
    tags: list[str]
    weight: float
    day: Literal["today", "tomorrow"] = "today"


class Order(pydantic.BaseModel):
    item: str
    count: int


def sent(response_format: ResponseFormat) -> pb.ResponseFormat:
    return submission("x", response_format=response_format).request.spec.response_format


def test_each_format_goes_into_its_field() -> None:
    assert sent(Regex("a+")).regex == "a+"
    assert sent(Grammar('start: "a"')).grammar == 'start: "a"'
    assert list(sent(Choices("yes", "no")).choices.texts) == ["yes", "no"]
    assert sent(Choices()).WhichOneof("format") == "choices"  # for the service to refuse
    assert sent(JsonSchema('{"type": "integer"}')).json_schema == '{"type": "integer"}'
    assert json.loads(sent(JsonSchema({"type": "null"})).json_schema) == {"type": "null"}
    assert not submission("x").request.spec.HasField("response_format")


def test_a_class_stands_for_its_schema() -> None:
    assert json.loads(sent(Order).json_schema) == Order.model_json_schema()
    schema = schema_of(Action)
    assert schema["required"] == ["kind", "at", "tags", "weight", "day"]
    assert schema["properties"]["kind"] == {"enum": ["reminder", "call"]}
    assert schema["properties"]["day"] == {"enum": ["today", "tomorrow"]}
    assert {"type": "null"} in schema["properties"]["at"]["anyOf"]
    assert schema["additionalProperties"] is False


def test_an_answer_becomes_an_instance() -> None:
    assert parse(Order, '{"item": "tea", "count": 2}') == Order(item="tea", count=2)
    text = '{"kind": "call", "at": {"hour": 7, "minute": 0}, "tags": ["a"], "weight": 1, "day": "tomorrow"}'  # noqa: E501
    assert parse(Action, text) == Action(Kind.CALL, Time(7, 0), ["a"], 1.0, "tomorrow")
    with pytest.raises(ValueError, match="Expecting"):
        parse(Action, '{"kind": "call"')


@pytest.mark.parametrize("wrong", [7, "a+", {"type": "integer"}, dict, Kind])
def test_what_is_no_format_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError):
        submission("x", response_format=wrong)


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="response_format"):
        submission("x", response_format=Regex("\ud800"))
