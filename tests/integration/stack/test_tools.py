"""Calls of functions through the whole stack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from miao_client import Client, FinishReason, InvalidRequestError, Message, Tool, ToolChoice
from miao_worker.stack import Stack, StackSettings
from tests.forked_worker import ForkingStack

from .conftest import WORKER_OPTIONS, kill_worker_of

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["北京", "Paris"]}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [Tool("weather", "Says the weather.", SCHEMA), Tool("now")]
QUESTION = [Message("user", "the weather?")]


def test_calls_that_must_come_fit_their_schemas(client: Client) -> None:
    for seed in range(3):
        stream = client.generate(
            QUESTION, tools=TOOLS, tool_choice=ToolChoice.REQUIRED, temperature=1, seed=seed
        )
        deltas = [delta for chunk in stream for delta in chunk.tool_calls]
        result = stream.result()
        assert result.text == ""
        assert result.tool_calls
        is_cut = result.finish_reason is FinishReason.LENGTH  # in the last of many calls
        for index, call in enumerate(result.tool_calls[: -1 if is_cut else None]):
            jsonschema.validate(call.arguments, SCHEMA if call.name == "weather" else {})
            parts = [delta.arguments_json for delta in deltas if delta.index == index]
            assert "".join(parts) == call.arguments_json


def test_one_that_is_named_is_called_once_and_the_conversation_goes_on(client: Client) -> None:
    answer = client.generate(QUESTION, tools=TOOLS, tool_choice=TOOLS[0], seed=5).result()
    assert answer.finish_reason is FinishReason.STOP
    (call,) = answer.tool_calls
    assert call.name == "weather"
    conversation = [*QUESTION, answer.message, Message("tool", "sunny", tool_call_id=call.id)]
    after = client.generate(conversation, tools=TOOLS, tool_choice="none", max_tokens=4)
    assert after.result().tool_calls == ()
    followed = client.get(answer.generation_id or "", include_output=True).output
    assert followed is not None
    assert followed.tool_calls == answer.tool_calls


def test_a_schema_that_output_cannot_follow_is_refused_by_its_place(client: Client) -> None:
    odd = Tool("odd", "", {"type": "object", "properties": {"a": {"type": "string", "not": {}}}})
    with pytest.raises(InvalidRequestError, match=r"tools\[1\].parameters_json_schema"):
        client.generate(QUESTION, tools=[TOOLS[0], odd], tool_choice="required").result()
    client.generate(QUESTION, tools=[TOOLS[0], odd], max_tokens=2).result()


@pytest.fixture
def pair(tiny_model: Path) -> Iterator[Stack]:
    """Two workers of one model."""
    worker = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    stack = ForkingStack(
        StackSettings("127.0.0.1:0", worker, more_workers=[worker]), lambda *_: None
    )
    stack.start()
    yield stack
    stack.stop()


def test_a_call_is_taken_over_in_its_midst(pair: Stack) -> None:
    days = {"type": "array", "items": {"type": "integer"}, "minItems": 60, "maxItems": 80}
    tool = Tool("plan", "", {**SCHEMA, "properties": {"days": days}, "required": ["days"]})
    asked: dict[str, Any] = {
        "tools": [tool],
        "tool_choice": tool,
        "temperature": 1,
        "seed": 3,
        "max_tokens": 460,
    }
    with Client(pair.address) as client:
        undisturbed = client.generate(QUESTION, **asked).result()
        jsonschema.validate(undisturbed.tool_calls[0].arguments, tool.parameters)
        stream = client.generate(QUESTION, **asked)
        parts: list[str] = []
        is_killed = False
        for chunk in stream:
            parts += [delta.arguments_json for delta in chunk.tool_calls]
            if not is_killed and len("".join(parts)) > 40:
                kill_worker_of(pair, str(stream.generation_id))
                is_killed = True
        result = stream.result()
        assert result.token_ids == undisturbed.token_ids
        (call,) = result.tool_calls
        assert call.arguments == undisturbed.tool_calls[0].arguments
        assert "".join(parts) == call.arguments_json
        assert (undisturbed.attempts, result.attempts) == (1, 2)
