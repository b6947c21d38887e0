"""The grammar of an answer that must call functions.

    <tool_call>                             what the format puts before a call
    {"name": "f", "arguments": {...}}       one of the tools, and JSON of its schema
    </tool_call>                            and behind it; perhaps more calls

Marks that are special tokens to a tokenizer cannot be asked of it as text; the
calls of such formats stand by themselves, and are read as such.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from miao.internal.v1.queue_pb2 import AnswerForm
from miao.v1 import generation_pb2 as pb
from miao_service.conversation import parameters_schema

MAX_CALLS = 16
_WHITESPACE = {"x-guidance": {"whitespace_pattern": "[ ]"}}


def must_call(spec: pb.GenerationSpec) -> list[pb.Tool]:
    """The tools of which the answer must call one; empty where it may do without."""
    if spec.tool_choice.WhichOneof("choice") == "name":
        return [tool for tool in spec.tools if tool.name == spec.tool_choice.name]
    is_required = spec.tool_choice.mode == pb.TOOL_CHOICE_MODE_REQUIRED
    return list(spec.tools) if is_required else []


def calls_grammar(tools: Sequence[pb.Tool], form: AnswerForm, *, single: bool) -> str:
    """The grammar of one call, or of several, in Lark's notation with JSON schemas.

    Sets in the form how such an answer is read.
    """
    is_tagged = form.tools.name == "hermes"
    begin, end, between = ("<tool_call>\n", "\n</tool_call>", "\n") if is_tagged else ("", "", "; ")
    form.tools.is_bare = not is_tagged
    before = f"\n{form.reasoning.end}\n\n" if form.starts_in_reasoning else ""
    more = "" if single else f" ({_quoted(between)} one){{0,{MAX_CALLS - 1}}}"
    key = "parameters" if form.tools.name == "llama3" else "arguments"
    lines = [
        f"start: {_quoted(before)} one{more}" if before else f"start: one{more}",
        f"one: {_quoted(begin)} call {_quoted(end)}" if is_tagged else "one: call",
        "call: " + " | ".join(f"call_{index}" for index in range(len(tools))),
    ]
    for index, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name)}, "{key}": '
        lines.append(f'call_{index}: {_quoted(head)} arguments_{index} "}}"')
        lines.append(f"arguments_{index}: %json {json.dumps(_schema(tool) | _WHITESPACE)}")
    return "\n".join(lines)


def _schema(tool: pb.Tool) -> dict[str, Any]:
    if not tool.parameters_json_schema:
        return {"type": "object", "additionalProperties": False}
    return {"type": "object"} | parameters_schema(tool)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
