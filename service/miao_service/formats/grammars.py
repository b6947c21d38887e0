"""A format that a caller asks for becomes a grammar, or is refused with the place of its error.

Runs in a process of its own (`process`), because what compiles a caller's text
may take all the time, memory and stack that it can get.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from miao.v1 import generation_pb2 as pb

MAX_LEVELS = 64
MAX_CHOICES_BYTES = 64 * 1024
_MAX_TRIALS = 300  # compilations to find the place of an error
_JSON_OPTIONS = {"whitespace_pattern": "[ ]", "lenient": False}
_LIMITS = LLParserLimits(verbose_errors=False)
_MAX_EXACT = 2**53  # integers beyond it are rounded where schemas are compiled
_SUBSCHEMAS = ("items", "additionalProperties", "contains", "propertyNames")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")


class FormatError(ValueError):
    """A format that cannot be followed; the message says where and why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field  # of ResponseFormat
        self.message = message


def grammar_of(response_format: pb.ResponseFormat) -> str:
    """The grammar of a format, as llguidance reads it. Raises FormatError."""
    match response_format.WhichOneof("format"):
        case "json_schema":
            return _of_json_schema(response_format.json_schema)
        case "regex":
            return _of_regex(response_format.regex)
        case "grammar":
            return _of_lark(response_format.grammar)
        case _:
            return _of_choices(list(response_format.choices.texts))


def _of_json_schema(text: str) -> str:
    schema = _parse_json(text)
    if _depth_of(schema) > MAX_LEVELS:
        raise FormatError("json_schema", f"has more than {MAX_LEVELS} levels")
    if not isinstance(schema, dict | bool):
        raise FormatError("json_schema", "must be an object, true or false")
    if isinstance(schema, dict) and "x-guidance" in schema:
        raise FormatError("json_schema", "must not hold the keyword x-guidance")
    if schema is False:
        raise FormatError("json_schema", "is false, which allows nothing")
    _check_integers(schema)
    fault = _fault_of_schema(schema)
    if fault is not None:
        place, fault = _place_of(schema, fault)
        raise FormatError("json_schema", f"at #{place}: {_in_one_line(fault)}")
    return _json_grammar(schema)


def _parse_json(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise FormatError("json_schema", f"is not JSON: {constant}")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise FormatError("json_schema", f"is not JSON at {place}: {error.msg}") from None
    except FormatError:
        raise
    except RecursionError:
        raise FormatError("json_schema", f"has more than {MAX_LEVELS} levels") from None
    except ValueError:  # a number of thousands of digits
        raise FormatError("json_schema", "holds a number that is too long") from None


def _check_integers(schema: Any, place: str = "#") -> None:
    """Refuse integers that would be followed as others."""
    if isinstance(schema, int) and not isinstance(schema, bool) and abs(schema) > _MAX_EXACT:
        raise FormatError("json_schema", f"at {place}: an integer of more than 53 bits")
    for key, value in _members(schema):
        _check_integers(value, f"{place}/{key}")


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _depth_of(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        containers = [v for v in level if isinstance(v, dict | list)]
        level = [c for v in containers for c in (v.values() if isinstance(v, dict) else v)]
    return depth


def _json_grammar(schema: Any) -> str:
    schema = {} if schema is True else schema
    return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON_OPTIONS)  # type: ignore[arg-type]


def _in_one_line(fault: str) -> str:
    if fault.startswith("oneOf constraints"):
        return "oneOf is supported only where its schemas exclude each other; use anyOf"
    described = re.search(r"^error: (.*)$", fault, re.MULTILINE)
    return f"the pattern is wrong: {described[1]}" if described else _first_line(fault)


def _fault_of_schema(schema: Any) -> str | None:
    return _fault_of(_json_grammar(schema))


def _place_of(root: Any, fault: str) -> tuple[str, str]:
    """The innermost schema that is wrong by itself: its JSON pointer, and its fault."""
    shared = {k: root[k] for k in ("$defs", "definitions", "$schema") if k in root}
    place, schema, trials = "", root, 0
    while True:
        for step, child in _subschemas(schema):
            trials += 1
            if trials > _MAX_TRIALS:
                return place, fault
            of_child = _fault_of_schema(shared | child if isinstance(child, dict) else child)
            if of_child is not None and not (child is not schema and _is_shared(of_child, shared)):
                place, schema, fault = place + step, child, of_child
                break
        else:
            return place, fault


def _is_shared(fault: str, shared: dict[str, Any]) -> bool:
    """Whether the definitions alone have the fault already."""
    return bool(shared) and _fault_of_schema(shared | {"type": "integer"}) == fault


def _subschemas(schema: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(schema, dict):
        return
    for name in _SUBSCHEMAS:
        if isinstance(schema.get(name), dict):
            yield f"/{name}", schema[name]
    for name in _LISTS_OF_SCHEMAS:
        if isinstance(schema.get(name), list):
            yield from ((f"/{name}/{i}", child) for i, child in enumerate(schema[name]))
    for name in _MAPS_OF_SCHEMAS:
        if isinstance(schema.get(name), dict):
            for key, child in schema[name].items():
                yield f"/{name}/{key.replace('~', '~0').replace('/', '~1')}", child


def _of_regex(text: str) -> str:
    if _nesting_of(text) > MAX_LEVELS:
        raise FormatError("regex", f"has more than {MAX_LEVELS} levels of brackets")
    grammar = LLMatcher.grammar_from_regex(text)
    fault = _fault_of(grammar)
    if fault is None:
        return grammar
    described = re.search(r"^error: (.*)$", fault, re.MULTILINE)
    caret = re.search(r"^    ( *)\^", fault, re.MULTILINE)
    if described is None:
        known = re.search(r"\(in regex\): ([^\n]*?)(?: in regex /|\n|$)", fault)
        raise FormatError("regex", known[1] if known else _first_line(fault))
    where = f"at character {len(caret[1]) + 1}: " if caret and "\n" not in text else ""
    raise FormatError("regex", where + described[1])


def _of_lark(text: str) -> str:
    if text.lstrip().startswith("{"):
        raise FormatError("grammar", "must be in Lark's notation")
    if _nesting_of(text) > MAX_LEVELS:
        raise FormatError("grammar", f"has more than {MAX_LEVELS} levels of brackets")
    is_error, messages = LLMatcher.validate_grammar_with_warnings(text, limits=_LIMITS)
    if is_error:
        ebnf = re.search(r"^[ \t]*<?[\w-]+>?[ \t]*(::=)", text, re.MULTILINE)
        if ebnf is not None:
            line, column = text.count("\n", 0, ebnf.start(1)) + 1, ebnf.start(1) - ebnf.start() + 1
            rule = 'rules are written "name: ...", as Lark has them, and begin at "start"'
            raise FormatError("grammar", f"at line {line}, column {column}: {rule}")
        found = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", messages[0])
        if found is None:
            raise FormatError("grammar", _first_line(messages[0]))
        raise FormatError("grammar", f"at line {found[1]}, column {found[2]}: {found[3]}")
    if any("no tokenizer" in message for message in messages):
        raise FormatError("grammar", "must be of text: it names special tokens")
    return text


def _of_choices(texts: list[str]) -> str:
    if sum(len(text.encode()) for text in texts) > MAX_CHOICES_BYTES:
        raise FormatError("choices", f"must have at most {MAX_CHOICES_BYTES:,} bytes together")
    grammar = "start: " + " | ".join(map(_quoted, texts))
    fault = _fault_of(grammar)
    if fault is not None:
        raise FormatError("choices", _first_line(fault))
    return grammar


def _quoted(text: str) -> str:
    """A text in Lark's notation: as in JSON, but for one control character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _nesting_of(text: str) -> int:
    """Levels of brackets, too many rather than too few: quotes are not looked at."""
    depth = deepest = 0
    for character in re.sub(r"\\.", "", text):
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(0, depth - 1)
    return deepest


def _fault_of(grammar: str) -> str | None:
    is_error, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=_LIMITS)
    return messages[0] if is_error else None


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0]
