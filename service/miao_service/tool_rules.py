"""What must hold between the fields of a conversation with tools, and within their JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from miao.v1 import generation_pb2 as pb
from miao_service.errors import Violation

MAX_LEVELS = 64
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A text that is empty or a JSON object; as a schema, one of objects."""

    max_bytes: int
    is_schema: bool = False

    def check(self, value: str, path: str) -> Iterator[Violation]:
        if not value:
            return
        if len(value) * 4 > self.max_bytes and len(value.encode()) > self.max_bytes:
            yield Violation(path, f"must have at most {self.max_bytes:,} bytes")
            return
        fault = _object_fault(value)
        if fault is None and self.is_schema:
            schema = json.loads(value)
            fault = next(_schema_faults(schema, "the schema"), None)
            if schema.get("type", "object") != "object":
                fault = 'must be the schema of an object: its type must be "object"'
        if fault is not None:
            yield Violation(path, fault)


def tool_violations(spec: pb.GenerationSpec) -> Iterator[Violation]:
    """What is wrong with tools and their choice, each rightly formed by itself."""
    names = [tool.name for tool in spec.tools]
    if names and spec.WhichOneof("input") != "chat":
        yield Violation("spec.tools", "needs chat input")
    yield from _repeated_names(names, "spec.tools")
    is_off = spec.tool_choice.mode == pb.TOOL_CHOICE_MODE_NONE
    if names and not is_off and spec.HasField("response_format"):
        yield Violation("spec.response_format", "not with tools that the model may call")
    if not spec.HasField("tool_choice"):
        return
    choice = spec.tool_choice
    if choice.WhichOneof("choice") == "name":
        if choice.name not in names:
            yield Violation("spec.tool_choice.name", "must be the name of one of the tools")
    elif choice.mode == pb.TOOL_CHOICE_MODE_REQUIRED and not names:
        yield Violation("spec.tool_choice.mode", "needs tools of which one can be called")


def chat_violations(chat: pb.Chat, path: str) -> Iterator[Violation]:
    """What is wrong between the messages of a conversation."""
    calls: set[str] = set()
    for index, message in enumerate(chat.messages):
        where = f"{path}.messages[{index}]"
        if message.role != pb.ROLE_ASSISTANT:
            for name in ("reasoning", "tool_calls"):
                if getattr(message, name):
                    yield Violation(f"{where}.{name}", "only ROLE_ASSISTANT has it")
        if message.role == pb.ROLE_TOOL:
            if message.tool_call_id not in calls:
                yield Violation(
                    f"{where}.tool_call_id", "must be the id of a call in an earlier message"
                )
        elif message.tool_call_id:
            yield Violation(f"{where}.tool_call_id", "only ROLE_TOOL has it")
        calls.update(call.id for call in message.tool_calls)


def repeated_tools(tools: Sequence[pb.Tool], path: str) -> Iterator[Violation]:
    """Names that several tools have."""
    yield from _repeated_names([tool.name for tool in tools], path)


def _repeated_names(names: Sequence[str], path: str) -> Iterator[Violation]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Violation(f"{path}[{index}].name", "must differ from the other tools' names")


def _object_fault(text: str) -> str | None:
    if _levels(text) > MAX_LEVELS:
        return f"must be nested at most {MAX_LEVELS} levels deep"
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        return f"must be JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except ValueError:
        return "must be JSON with finite numbers and whole Unicode characters"
    return None if isinstance(value, dict) else "must be a JSON object"


def _levels(text: str) -> int:
    """How deep brackets are nested, at most; those within strings count too."""
    deepest = level = 0
    for char in text:
        if char in "{[":
            level += 1
            deepest = max(deepest, level)
        elif char in "}]":
            level -= 1
    return deepest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _schema_faults(schema: Any, where: str) -> Iterator[str]:
    """Keywords of a JSON schema that are not what they must be."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"must be a JSON schema: {where} must be an object"
        return
    types = schema.get("type", [])
    for name in types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in _TYPES:
            yield f"must be a JSON schema: {where}.type must be one of {', '.join(sorted(_TYPES))}"
    for key in ("required", "enum", "anyOf", "oneOf", "allOf"):
        if not isinstance(schema.get(key, []), list):
            yield f"must be a JSON schema: {where}.{key} must be a list"
            return
    for key in ("properties", "$defs", "definitions"):
        inner = schema.get(key, {})
        if not isinstance(inner, dict):
            yield f"must be a JSON schema: {where}.{key} must be an object"
            return
        for name, entry in inner.items():
            yield from _schema_faults(entry, f"{where}.{key}.{name[:64]}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _schema_faults(schema[key], f"{where}.{key}")
    for key in ("anyOf", "oneOf", "allOf"):
        for index, entry in enumerate(schema.get(key, [])):
            yield from _schema_faults(entry, f"{where}.{key}[{index}]")
