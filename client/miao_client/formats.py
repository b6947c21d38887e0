"""The form that an output must have: schemas, regular expressions, grammars, choices.

Example:
    >>> from miao_client import Choices, JsonSchema
    >>> client.generate(text, response_format=Choices("praise", "complaint", "question"))
    >>> client.generate(text, response_format=JsonSchema({"type": "integer"})).result().json()
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from miao.v1 import generation_pb2 as pb


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that is valid against a schema, given as JSON text or as what it stands for."""

    schema: str | Mapping[str, Any]

    @property
    def text(self) -> str:
        """The schema as JSON."""
        return self.schema if isinstance(self.schema, str) else json.dumps(self.schema)


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that a regular expression matches as a whole."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """A text of a context-free grammar in Lark's notation, from its rule `start`."""

    lark: str


@dataclass(frozen=True, slots=True, init=False)
class Choices:
    """One of these texts."""

    texts: tuple[str, ...]

    def __init__(self, *texts: str) -> None:
        object.__setattr__(self, "texts", texts)


# A class is a dataclass, or a model of pydantic: JSON of its fields.
ResponseFormat: TypeAlias = JsonSchema | Regex | Grammar | Choices | type


def write_format(message: pb.ResponseFormat, response_format: ResponseFormat) -> None:
    """Put a format into the contract's message. Raises TypeError for what is none."""
    match response_format:
        case JsonSchema():
            message.json_schema = response_format.text
        case Regex(pattern):
            message.regex = pattern
        case Grammar(lark):
            message.grammar = lark
        case Choices(texts):
            message.choices.texts.extend(texts)
            message.choices.SetInParent()
        case type():
            message.json_schema = json.dumps(schema_of(response_format))
        case _:
            raise TypeError(
                "response_format must be a JsonSchema, Regex, Grammar, Choices, a dataclass or a "
                f"pydantic model, not {type(response_format).__name__}"
            )


def schema_of(kind: type) -> dict[str, Any]:
    """The JSON schema of a dataclass or of a pydantic model. Raises TypeError for others."""
    if hasattr(kind, "model_json_schema"):
        schema: dict[str, Any] = kind.model_json_schema()
        return schema
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind.__name__} is neither a dataclass nor a pydantic model")
    return _schema_of_dataclass(kind)


def parse(kind: type, text: str) -> Any:
    """What a text of `schema_of(kind)` says, as an instance of it. Raises ValueError."""
    if hasattr(kind, "model_validate_json"):
        return kind.model_validate_json(text)
    return _value_of(kind, json.loads(text))


_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
}


def _schema_of_dataclass(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    return {
        "type": "object",
        "properties": {name: _schema_of_hint(hints[name]) for name in names},
        "required": names,
        "additionalProperties": False,
    }


def _schema_of_hint(hint: Any) -> dict[str, Any]:
    if hint in _PLAIN:
        return _PLAIN[hint]
    if dataclasses.is_dataclass(hint):
        return _schema_of_dataclass(hint)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of_hint(argument) for argument in arguments]}
    if origin in (list, tuple) and (len(arguments) == 1 or arguments[1:] == (...,)):
        return {"type": "array", "items": _schema_of_hint(arguments[0])}
    raise TypeError(f"no JSON schema is known for {hint!r}; use a JsonSchema")


def _value_of(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = get_type_hints(hint)
        return hint(**{name: _value_of(hints[name], value[name]) for name in value})  # type: ignore[operator]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _value_of_union(arguments, value)
    if origin in (list, tuple):
        return origin(_value_of(arguments[0], element) for element in value)
    if hint is float and isinstance(value, int):
        return float(value)
    return value


def _value_of_union(kinds: tuple[Any, ...], value: Any) -> Any:
    """As the first of the union's types whose fields are those of the value."""
    for kind in kinds:
        if dataclasses.is_dataclass(kind):
            names = {field.name for field in dataclasses.fields(kind)}
            if isinstance(value, dict) and set(value) == names:
                return _value_of(kind, value)
        elif get_origin(kind) in (list, tuple) and isinstance(value, list):
            return _value_of(kind, value)
    return value
