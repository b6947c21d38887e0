"""Formats become grammars, or are refused with the place of their error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from miao.v1 import generation_pb2 as pb
from miao_service.formats.grammars import FormatError, grammar_of


def fault(**kind: Any) -> tuple[str, str]:
    with pytest.raises(FormatError) as refused:
        grammar_of(pb.ResponseFormat(**kind))
    return refused.value.field, refused.value.message


def in_schema(schema: Any) -> str:
    field, message = fault(json_schema=json.dumps(schema))
    assert field == "json_schema"
    return message


BYTES = LLTokenizer("byte")


def accepts(grammar: str, text: str) -> bool:
    matcher = LLMatcher(BYTES, grammar, log_level=0)
    assert not matcher.is_error()
    return matcher.try_consume_tokens(list(text.encode())) == len(text.encode()) and (
        matcher.is_accepting()
    )


def test_the_place_of_an_error_is_a_json_pointer() -> None:
    wrong = {"type": "strin"}
    assert in_schema(wrong) == "at #: Invalid type: strin"
    nested = {"type": "object", "properties": {"a/b": {"type": "array", "items": wrong}}}
    assert in_schema(nested) == "at #/properties/a~1b/items: Invalid type: strin"
    branch = {"anyOf": [{"type": "integer"}, {"properties": {"x": wrong}}]}
    assert in_schema(branch).startswith("at #/anyOf/1/properties/x: ")
    shared = {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/z"}}}
    assert "/$defs/z" in in_schema(shared)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"not": {"type": "string"}}, "Unimplemented keys"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "format": "shoe-size"}, "Unknown format"),
        ({"type": "string", "pattern": "(a"}, "the pattern is wrong: unclosed group"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "Unsatisfiable"),
        ({"$ref": "https://example.com/schema"}, "not present"),
        ({"x-guidance": {"lenient": True}}, "x-guidance"),
        ([], "an object, true or false"),
    ],
)
def test_what_a_schema_cannot_say_is_refused(schema: Any, words: str) -> None:
    assert words in in_schema(schema)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type":\n "x" "y"}', "line 2, column 6"),
        ("", "line 1, column 1"),
        ("NaN", "is not JSON: NaN"),
        ("[" * 60_000, "levels"),
        ('{"a":' * 70 + "1" + "}" * 70, "64 levels"),
        ("1" * 5000, "too long"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text: str, words: str) -> None:
    assert words in fault(json_schema=text)[1]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("ab(c", "at character 3: unclosed group"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences are not supported"),
        (r"\bword", "lookarounds"),
        ("(" * 70 + ")" * 70, "64 levels"),
    ],
)
def test_a_wrong_regular_expression_is_refused(pattern: str, words: str) -> None:
    field, message = fault(regex=pattern)
    assert field == "regex"
    assert words in message


@pytest.mark.parametrize(
    ("grammar", "words"),
    [
        ('# a\nroot ::= "a" | b', 'at line 2, column 6: rules are written "name: ..."'),
        ('start: "a" b', 'at line 1, column 8: unknown name: "b"'),
        ('start: a\na: "x" |\n  /(/', "line 3, column 3"),
        ('other: "a"', "no start rule"),
        ("start: <|im_end|>", "special tokens"),
        ("start: <[0-9]>", "special tokens"),
        ('{"grammars": []}', "Lark"),
        ("start: " + "(" * 70 + '"a"' + ")" * 70, "64 levels"),
    ],
)
def test_a_wrong_grammar_is_refused(grammar: str, words: str) -> None:
    field, message = fault(grammar=grammar)
    assert field == "grammar"
    assert words in message


def test_choices_are_taken_as_they_are() -> None:
    texts = ["是", "no", "\x7f", "😀", 'a"\\\n\0/b', "no more"]
    grammar = grammar_of(pb.ResponseFormat(choices=pb.Choices(texts=texts)))
    assert all(accepts(grammar, text) for text in texts)
    assert not accepts(grammar, "n")
    many = pb.Choices(texts=["x" * 1000] * 66)
    assert "65,536 bytes" in fault(choices=many)[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5))
def test_any_text_can_be_a_choice(texts: list[str]) -> None:
    try:
        message = pb.ResponseFormat(choices=pb.Choices(texts=texts))
    except (ValueError, UnicodeEncodeError):  # not valid Unicode
        return
    grammar = grammar_of(message)
    assert all(accepts(grammar, text) for text in texts)


def test_regular_expressions_match_the_whole_output() -> None:
    grammar = grammar_of(pb.ResponseFormat(regex=r"a/b+\.(x|y)"))
    assert accepts(grammar, "a/bb.x")
    assert not accepts(grammar, "a/bb.")
    assert not accepts(grammar, " a/bb.x")


def test_there_is_no_room_for_endless_whitespace() -> None:
    grammar = grammar_of(pb.ResponseFormat(json_schema='{"type": "array"}'))
    assert accepts(grammar, '[1, {"a": [] } ]')
    assert not accepts(grammar, "[1,  2]")
    assert not accepts(grammar, "[1,\n2]")


@pytest.mark.parametrize("value", [2**53 + 1, -(2**60)])
def test_integers_that_would_be_rounded_are_refused_with_their_place(value: int) -> None:
    schema = {"properties": {"id": {"enum": [1, value]}}}
    with pytest.raises(FormatError, match="#/properties/id/enum/1: an integer of more than 53"):
        grammar_of(pb.ResponseFormat(json_schema=json.dumps(schema)))


def test_a_schema_may_be_true_and_not_false() -> None:
    assert accepts(grammar_of(pb.ResponseFormat(json_schema="true")), '{"a": [1]}')
    with pytest.raises(FormatError, match="allows nothing"):
        grammar_of(pb.ResponseFormat(json_schema="false"))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["json_schema", "regex", "grammar"]))
def test_whatever_text_comes_is_a_grammar_or_refused(text: str, kind: str) -> None:
    try:
        grammar = grammar_of(pb.ResponseFormat(**{kind: text}))
    except (FormatError, UnicodeEncodeError):
        return
    assert not LLMatcher(BYTES, grammar, log_level=0).is_error()
