"""Functions that a model may call, and its calls of them."""

from __future__ import annotations

import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miao.v1 import generation_pb2 as pb


class ToolChoice(enum.StrEnum):
    """Whether the model calls functions."""

    AUTO = "auto"  # it decides
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function, as the model wrote it."""

    id: str
    name: str
    arguments_json: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name.

        Raises:
            ValueError: The model wrote none that can be read, or was cut short.
        """
        arguments = json.loads(self.arguments_json or "{}")
        if not isinstance(arguments, dict):
            raise ValueError("the arguments of a call must be a JSON object")
        return arguments


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """What a chunk adds to a call; `id` and `name` stand in a call's first delta alone."""

    index: int  # which call of the answer
    id: str
    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    `parameters` is a JSON schema of an object. With `function` given, `run`
    answers a call.

    Example:
        >>> weather = Tool("weather", "Says the weather.", {
        ...     "type": "object",
        ...     "properties": {"city": {"type": "string"}},
        ...     "required": ["city"],
        ... })
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        if self.function is None:
            raise TypeError(f"the tool {self.name!r} was made without a function")
        return self.function(*args, **kwargs)

    def run(self, call: ToolCall) -> str:
        """The function's answer to a call, as the text of a "tool" message.

        What is no text becomes JSON. Raises what the function raises, ValueError
        for arguments that are no JSON, and TypeError for ones it does not take.
        """
        answer = self(**call.arguments)
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def tool(function: Callable[..., Any]) -> Tool:
    """Make a tool of a function: its name, its docstring, its annotated parameters.

    Parameters may be str, int, float, bool, lists and dicts of these, Literal,
    Enum, and unions with None; those without a default are required.

    Raises:
        TypeError: A parameter has no annotation, or one that no schema says.

    Example:
        >>> @tool
        ... def weather(city: str, days: int = 1) -> str:
        ...     '''Say what the weather will be.'''
    """
    hints = typing.get_type_hints(function)
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in hints or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"the parameter {name!r} of {function.__name__} needs an annotation")
        properties[name] = _schema(hints[name], name)
        if parameter.default is parameter.empty:
            required.append(name)
        elif isinstance(parameter.default, str | int | float | bool):
            properties[name]["default"] = parameter.default
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,  # the function would not take them
    }
    return Tool(function.__name__, inspect.getdoc(function) or "", parameters, function)


def write_tools(target: Any, tools: Sequence[Tool | Callable[..., Any]] | None) -> None:
    """Add tools to a request; plain functions become tools."""
    for given in tools or ():
        made = given if isinstance(given, Tool) else tool(given)
        schema = json.dumps(made.parameters, ensure_ascii=False) if made.parameters else ""
        target.tools.append(
            pb.Tool(name=made.name, description=made.description, parameters_json_schema=schema)
        )


def tool_choice(choice: ToolChoice | str | Tool | Callable[..., Any]) -> pb.ToolChoice:
    """The choice as the contract says it. Raises ValueError for words it does not know."""
    if isinstance(choice, Tool):
        return pb.ToolChoice(name=choice.name)
    if inspect.isfunction(choice):
        return pb.ToolChoice(name=choice.__name__)
    return pb.ToolChoice(mode=_MODES[ToolChoice(str(choice))])


_MODES = {
    ToolChoice.AUTO: pb.TOOL_CHOICE_MODE_AUTO,
    ToolChoice.NONE: pb.TOOL_CHOICE_MODE_NONE,
    ToolChoice.REQUIRED: pb.TOOL_CHOICE_MODE_REQUIRED,
}
_PLAIN = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
    type(None): "null",
}


def _schema(hint: Any, name: str) -> dict[str, Any]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return {"type": _PLAIN[hint]}
    if origin is typing.Literal:
        return {"enum": list(inner)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(part, name) for part in inner]}
    if origin in (list, Sequence):
        return {"type": "array", "items": _schema(inner[0], name)}
    if origin in (dict, Mapping) and inner[0] is str:
        return {"type": "object", "additionalProperties": _schema(inner[1], name)}
    raise TypeError(f"the parameter {name!r} has an annotation that no JSON schema says: {hint}")
