"""A request for a chat completion, as a call of the SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from miao_client.gateway import sampling, truncation
from miao_client.gateway.fields import Fields
from miao_client.prompts import Message
from miao_client.tools import Tool, ToolCall, ToolChoice

_ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked for, and how it is to be answered."""

    messages: list[Message]
    options: dict[str, Any]
    stream: bool
    include_usage: bool
    logprobs: bool


def read(fields: Fields) -> ChatRequest:
    """Read a request.

    Raises:
        Refusal: A field is wrong, or cannot be honoured.
    """
    messages = _messages(fields)
    options = sampling.options(fields)
    options |= _length(fields) | _tools(fields) | _thinking(fields)
    options |= truncation.options(fields, options.get("max_tokens"))
    logprobs = bool(fields.boolean("logprobs"))
    top = fields.integer("top_logprobs")
    if top is not None and not logprobs:
        raise fields.wrong("top_logprobs", "needs logprobs to be true")
    if logprobs:
        options["logprobs"] = top or 0
    if (form := sampling.response_format(fields)) is not None:
        options["response_format"] = form
    stream = bool(fields.boolean("stream"))
    include_usage = sampling.include_usage(fields, stream)
    _say_what_is_so_anyway(fields)
    fields.finish()
    return ChatRequest(messages, options, stream, include_usage, logprobs)


def _say_what_is_so_anyway(fields: Fields) -> None:
    """Fields that may say what holds here, and nothing else."""
    fields.only("store", False, why="cannot be true: answers are kept for their callers alone")
    fields.only("service_tier", "auto", "default", why="is not supported; see priority")
    fields.only("modalities", ["text"], why='must be ["text"]')
    fields.only("verbosity", "medium", why="is not supported")
    fields.only("add_generation_prompt", True, why="cannot be false: the model answers")
    fields.only("continue_final_message", False, why="cannot be true")
    fields.only("add_special_tokens", False, why="cannot be true: the template says all")
    fields.only("include_reasoning", True, why="cannot be false")


def _length(fields: Fields) -> dict[str, Any]:
    """The most tokens, by its name of today or the one before."""
    today, before = fields.integer("max_completion_tokens"), fields.integer("max_tokens")
    if today is not None and before is not None and today != before:
        raise fields.wrong("max_tokens", "contradicts max_completion_tokens")
    most = before if today is None else today
    return {} if most is None else {"max_tokens": most}


def _thinking(fields: Fields) -> dict[str, Any]:
    """Whether the model is to think first."""
    wanted = None
    effort = fields.text("reasoning_effort")
    if effort == "none":
        wanted = False
    elif effort is not None:
        fields.unsupported("reasoning_effort", 'can only be "none": a degree is not supported')
    template = fields.inner("chat_template_kwargs")
    if template is not None:
        said = template.boolean("enable_thinking")
        template.finish()
        if said and wanted is False:
            raise fields.wrong("reasoning_effort", "contradicts chat_template_kwargs")
        wanted = wanted if said is None else said
    return {} if wanted is None else {"enable_thinking": wanted}


def _tools(fields: Fields) -> dict[str, Any]:
    choice, named = _tool_choice(fields)
    tools = [_tool(each, must_be_called=choice not in (None, "auto")) for each in _given(fields)]
    if not named:
        fields.only("parallel_tool_calls", True, why="cannot be false unless a tool is named")
    else:
        fields.boolean("parallel_tool_calls")  # a named tool is called once
    options: dict[str, Any] = {"tools": tools} if tools else {}
    if choice is not None:
        options["tool_choice"] = choice
    return options


def _given(fields: Fields) -> list[Fields]:
    tools = []
    for each in fields.objects("tools"):
        each.needed("type", each.choice("type", ("function",)))
        tools.append(each.needed("function", each.inner("function")))
        each.finish()
    return tools


def _tool(function: Fields, must_be_called: bool) -> Tool:
    name = function.needed("name", function.text("name"))
    description = function.text("description") or ""
    parameters = function.take("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise function.wrong("parameters", "must be a JSON schema of an object")
    if function.boolean("strict") and not must_be_called:
        function.unsupported(
            "strict", 'can only be true where tool_choice is "required" or names a tool'
        )
    function.finish()
    return Tool(name, description, parameters or {})


def _tool_choice(fields: Fields) -> tuple[ToolChoice | Tool | None, bool]:
    """The choice, and whether it names a tool."""
    value = fields.take("tool_choice")
    if value is None:
        return None, False
    if isinstance(value, str) and value in tuple(ToolChoice):
        return ToolChoice(value), False
    if isinstance(value, dict) and value.get("type") == "function":
        function = value.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return Tool(function["name"]), True
    raise fields.wrong(
        "tool_choice", 'must be "auto", "none", "required", or an object that names a function'
    )


def _messages(fields: Fields) -> list[Message]:
    messages: list[Message] = []
    called: dict[str, str] = {}  # the functions of calls so far, by their ids
    for each in fields.objects("messages"):
        message = _message(each, called)
        called |= {call.id: call.name for call in message.tool_calls}
        messages.append(message)
    if not messages:
        raise fields.wrong("messages", "must hold at least one message")
    return messages


def _message(fields: Fields, called: dict[str, str]) -> Message:
    role = fields.needed("role", fields.choice("role", _ROLES))
    content = _content(fields)
    name = fields.text("name")
    answers = fields.text("tool_call_id") or ""
    if name is not None and not (role == "tool" and called.get(answers) == name):
        fields.unsupported("name", "is not supported")
    reasoning = fields.text("reasoning_content") or ""
    calls = [_call(each) for each in fields.objects("tool_calls")]
    if content is None and not calls:
        raise fields.wrong("content", "is required")
    fields.only("annotations", [], why="is not supported")
    fields.finish()
    return Message(
        "system" if role == "developer" else role, content or "", reasoning, calls, answers
    )


def _content(fields: Fields) -> str | None:
    """A message's text, also where it comes in parts."""
    value = fields.take("content")
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise fields.wrong("content", "must be a string or an array of text parts")
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise fields.wrong(f"content[{index}]", "must be an object with a type")
        if part["type"] != "text" or not isinstance(part.get("text"), str):
            raise fields.wrong(f"content[{index}]", "must be of type text, with a text")
        texts.append(part["text"])
    return "".join(texts)


def _call(fields: Fields) -> ToolCall:
    fields.choice("type", ("function",))
    call_id = fields.needed("id", fields.text("id"))
    function = fields.needed("function", fields.inner("function"))
    fields.take("index")  # which a client copies from a stream
    fields.finish()
    name = function.needed("name", function.text("name"))
    arguments = function.text("arguments") or ""
    function.finish()
    return ToolCall(call_id, name, arguments)
