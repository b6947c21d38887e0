"""Tools from functions, calls out of streams, and conversations that go on."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest

from miao.v1 import generation_pb2 as pb
from miao_client import InvalidRequestError, Message, Tool, ToolCall, ToolChoice, options, tool
from miao_client.progress import Progress


class Unit(enum.Enum):
    CELSIUS = "C"
    KELVIN = "K"


def weather(city: str, days: int = 1, unit: Unit | None = None) -> dict[str, Any]:
    """Say what the weather will be."""
    return {"city": city, "days": days}


def test_a_function_becomes_a_tool_by_its_signature() -> None:
    made = tool(weather)
    assert (made.name, made.description) == ("weather", "Say what the weather will be.")
    assert made.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "unit": {"anyOf": [{"enum": ["C", "K"]}, {"type": "null"}]},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert made("x") == {"city": "x", "days": 1}
    assert made.run(ToolCall("1", "weather", '{"city": "北京"}')) == '{"city": "北京", "days": 1}'


def test_annotations_of_json_are_known() -> None:
    def function(a: list[str], b: dict[str, float], c: Literal["x", 1], d: bool | None) -> str:
        return "done"

    properties = tool(function).parameters["properties"]
    assert properties == {
        "a": {"type": "array", "items": {"type": "string"}},
        "b": {"type": "object", "additionalProperties": {"type": "number"}},
        "c": {"enum": ["x", 1]},
        "d": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
    }
    assert (
        tool(function).run(ToolCall("1", "function", '{"a": [], "b": {}, "c": 1, "d": null}'))
        == "done"
    )


def test_what_no_schema_says_is_an_error() -> None:
    with pytest.raises(TypeError, match="needs an annotation"):
        tool(lambda city: city)
    with pytest.raises(TypeError, match="no JSON schema says"):
        tool(_takes_bytes)
    with pytest.raises(TypeError, match="without a function"):
        Tool("f").run(ToolCall("1", "f", "{}"))
    with pytest.raises(ValueError, match="JSON object"):
        _ = ToolCall("1", "f", "[1]").arguments


def _takes_bytes(data: bytes) -> None: ...


def test_tools_and_their_choice_stand_in_the_request() -> None:
    prompt = [{"role": "user", "content": "hi"}]
    spec = options.submission(
        prompt, tools=[weather, Tool("g")], tool_choice="none", enable_thinking=False
    ).request.spec
    assert [made.name for made in spec.tools] == ["weather", "g"]
    assert spec.tools[1].parameters_json_schema == ""
    assert spec.tool_choice.mode == pb.TOOL_CHOICE_MODE_NONE
    assert spec.chat.HasField("enable_thinking")
    for choice in (tool(weather), weather):
        named = options.submission(prompt, tool_choice=choice).request.spec
        assert named.tool_choice.name == "weather"
    required = options.submission(prompt, tool_choice=ToolChoice.REQUIRED).request.spec
    assert required.tool_choice.mode == pb.TOOL_CHOICE_MODE_REQUIRED
    with pytest.raises(InvalidRequestError, match="tool_choice"):
        options.submission(prompt, tool_choice="weather")
    with pytest.raises(InvalidRequestError, match="enable_thinking"):
        options.submission("text", enable_thinking=True)


def event(number: int, text: str, count: int, *parts: pb.Part) -> pb.GenerationEvent:
    tokens = pb.Tokens(text=text, token_ids=range(number - count, number), parts=parts)
    tokens.text_lengths.extend([len(text)] + [0] * (count - 1))
    return pb.GenerationEvent(sequence_number=number, attempt=1, tokens=tokens)


def part(at: int, **delta: Any) -> pb.Part:
    if "reasoning" in delta:
        return pb.Part(token_index=at, reasoning=delta["reasoning"])
    return pb.Part(token_index=at, tool_call=pb.ToolCallDelta(**delta))


def test_calls_are_put_together_across_events_that_overlap() -> None:
    progress = Progress("g")
    progress.take(event(2, "", 2, part(0, reasoning="h"), part(1, reasoning="m")))
    progress.take(event(3, "Yes.", 1))
    first = part(0, id="abc", name="weather", arguments_json='{"ci')
    progress.take(event(5, "", 2, first, part(1, arguments_json='ty": ')))
    again = event(6, "", 3, first, part(1, arguments_json='ty": '), part(2, arguments_json='"x"}'))
    chunk = progress.take(again)
    assert chunk is not None
    assert [delta.arguments_json for delta in chunk.tool_calls] == ['"x"}']
    progress.take(event(7, "", 1, part(0, index=1, id="def", name="g", arguments_json="{}")))
    result = progress.result()
    assert (result.text, result.reasoning) == ("Yes.", "hm")
    assert result.tool_calls == (
        ToolCall("abc", "weather", '{"city": "x"}'),
        ToolCall("def", "g", "{}"),
    )
    assert result.tool_calls[0].arguments == {"city": "x"}
    answer = Message("tool", "sunny", tool_call_id="abc")
    spec = options.submission([Message("user", "?"), result.message, answer]).request.spec
    user, assistant, answered = spec.chat.messages
    assert (assistant.role, assistant.content, assistant.reasoning) == (3, "Yes.", "hm")
    assert [call.id for call in assistant.tool_calls] == ["abc", "def"]
    assert (answered.role, answered.tool_call_id) == (pb.ROLE_TOOL, "abc")
    assert user.role == pb.ROLE_USER
