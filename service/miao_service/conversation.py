"""Conversations and tools as chat templates take them: the form of transformers.

`guard` is given each text that a caller wrote, with the name of its field, and
returns what is to stand for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from miao.v1 import generation_pb2 as pb

Guard = Callable[[str, str], str]

ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}


def template_messages(chat: pb.Chat, guard: Guard, path: str) -> list[dict[str, Any]]:
    """The messages of a checked conversation."""
    names: dict[str, str] = {}  # of functions, by the id of a call
    messages = []
    for index, message in enumerate(chat.messages):
        names.update((call.id, call.name) for call in message.tool_calls)
        messages.append(_message(message, names, guard, f"{path}.messages[{index}]"))
    return messages


def template_tools(tools: Iterable[pb.Tool], guard: Guard, path: str) -> list[dict[str, Any]]:
    """Checked tools."""
    made = []
    for index, tool in enumerate(tools):
        schema = _guarded(parameters_schema(tool), guard, f"{path}[{index}].parameters_json_schema")
        function = {
            "name": guard(tool.name, f"{path}[{index}].name"),
            "description": guard(tool.description, f"{path}[{index}].description"),
            "parameters": schema,
        }
        made.append({"type": "function", "function": function})
    return made


def template_options(chat: pb.Chat) -> dict[str, Any]:
    """What a conversation says besides; templates know it by either name."""
    if not chat.HasField("enable_thinking"):
        return {}
    return {"enable_thinking": chat.enable_thinking, "thinking": chat.enable_thinking}


def parameters_schema(tool: pb.Tool) -> dict[str, Any]:
    """The JSON schema of a checked tool's parameters, also where it says none."""
    if not tool.parameters_json_schema:
        return {"type": "object", "properties": {}}
    schema: dict[str, Any] = json.loads(tool.parameters_json_schema)
    return schema


def _message(
    message: pb.ChatMessage, names: dict[str, str], guard: Guard, path: str
) -> dict[str, Any]:
    """One message. Templates ask whether a name is there, so those without a value are not."""
    made: dict[str, Any] = {
        "role": ROLES[message.role],
        "content": guard(message.content, f"{path}.content"),
    }
    if message.reasoning:  # templates know it by either name
        made["reasoning"] = guard(message.reasoning, f"{path}.reasoning")
        made["reasoning_content"] = made["reasoning"]
    if message.tool_calls:
        calls = enumerate(message.tool_calls)
        made["tool_calls"] = [_call(call, guard, f"{path}.tool_calls[{i}]") for i, call in calls]
    if message.role == pb.ROLE_TOOL:
        made["tool_call_id"] = guard(message.tool_call_id, f"{path}.tool_call_id")
        made["name"] = guard(names.get(message.tool_call_id, ""), f"{path}.tool_call_id")
    return made


def _call(call: pb.ToolCall, guard: Guard, path: str) -> dict[str, Any]:
    arguments = json.loads(call.arguments_json or "{}")
    function = {
        "name": guard(call.name, f"{path}.name"),
        "arguments": _guarded(arguments, guard, f"{path}.arguments_json"),
    }
    return {"id": guard(call.id, f"{path}.id"), "type": "function", "function": function}


def _guarded(value: Any, guard: Guard, path: str) -> Any:
    """The same with every text in it guarded, keys too."""
    if isinstance(value, str):
        return guard(value, path)
    if isinstance(value, dict):
        return {guard(key, path): _guarded(entry, guard, path) for key, entry in value.items()}
    if isinstance(value, list):
        return [_guarded(entry, guard, path) for entry in value]
    return value
