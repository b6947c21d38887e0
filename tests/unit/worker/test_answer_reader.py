"""Thoughts, text and calls out of what models write, however it is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miao.internal.v1.queue_pb2 import AnswerForm, ReasoningFormat
from miao_worker.answer_reader import AnswerReader, Said
from miao_worker.tool_formats import FORMATS

THINK = ReasoningFormat(start="<think>", end="</think>")
NAMES = ["weather", "get_time"]
CALL = '{"name": "weather", "arguments": {"city": "北京", "days": [1, {"a": "}"}]}}'
ARGUMENTS = '{"city": "北京", "days": [1, {"a": "}"}]}'


@dataclass
class Read:
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)

    def add(self, said: Said) -> None:
        self.text += said.text
        self.reasoning += said.reasoning
        for delta in said.calls:
            if delta.name is not None:
                assert delta.index == len(self.calls)
                self.calls.append((delta.name, delta.arguments))
            else:
                name, arguments = self.calls[delta.index]
                self.calls[delta.index] = (name, arguments + delta.arguments)


def read(form: AnswerForm, pieces: list[str]) -> Read:
    reader, result = AnswerReader(form), Read()
    for piece in pieces:
        result.add(reader.push(piece))
    result.add(reader.flush())
    return result


def form(name: str, **changes: object) -> AnswerForm:
    return AnswerForm(tools=FORMATS[name], tool_names=NAMES, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "written", "text", "calls"),
    [
        ("hermes", f"<tool_call>\n{CALL}\n</tool_call>", "", [("weather", ARGUMENTS)]),
        (
            "hermes",
            f"Let me see.\n<tool_call>{CALL}</tool_call>\n"
            '<tool_call>\n{"arguments": {}, "name": "get_time"}\n</tool_call> Done.',
            "Let me see.Done.",
            [("weather", ARGUMENTS), ("get_time", "{}")],
        ),
        ("hermes", '<tool_call>{"name": "get_time"}</tool_call>', "", [("get_time", "{}")]),
        (
            "hermes",
            '<tool_call>{"name": "weather", "arguments": {"city": "</tool_call>"}}</tool_call>',
            "",
            [("weather", '{"city": "</tool_call>"}')],
        ),
        (
            "hermes",
            '<tool_call>{"type": "function", "function": {"name": "get_time", "arguments": '
            '"{\\"a\\": 1}"}}</tool_call>',
            "",
            [("get_time", '{"a": 1}')],
        ),
        ("llama3", '{"name": "weather", "parameters": {"a": 1}}', "", [("weather", '{"a": 1}')]),
        (
            "llama3",
            '<|python_tag|>{"name": "weather", "parameters": {}}; '
            '{"name": "get_time", "parameters": null}',
            "",
            [("weather", "{}"), ("get_time", "{}")],
        ),
        ("llama3", '<|python_tag|>weather(city="x")', "", [("weather", '{"city": "x"}')]),
        ("mistral", f"[TOOL_CALLS] [{CALL}]", "", [("weather", ARGUMENTS)]),
        (
            "mistral",
            'ok[TOOL_CALLS]weather[ARGS]{"a": 1}[TOOL_CALLS]get_time[CALL_ID]abc[ARGS]{}',
            "ok",
            [("weather", '{"a": 1}'), ("get_time", "{}")],
        ),
        ("phi4", f"<|tool_call|>[{CALL}]<|/tool_call|>", "", [("weather", ARGUMENTS)]),
        (
            "pythonic",
            "[weather(city='北京', n=[1, (2, 3)], f=None, b=true), get_time()]",
            "",
            [
                ("weather", '{"city": "北京", "n": [1, [2, 3]], "f": null, "b": true}'),
                ("get_time", "{}"),
            ],
        ),
        ("json", f"\n{CALL}", "", [("weather", ARGUMENTS)]),
        ("json", f"[{CALL}, {CALL}]", "", [("weather", ARGUMENTS)] * 2),
    ],
)
def test_calls_of_each_format_are_read_at_any_cut(
    name: str, written: str, text: str, calls: list[tuple[str, str]]
) -> None:
    for pieces in ([written], list(written), [written[:9], written[9:]]):
        found = read(form(name), pieces)
        assert (found.text, found.calls) == (text, calls)
        for _, arguments in found.calls:
            json.loads(arguments)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        ("hermes", "<tool_call>not JSON</tool_call> and more"),
        ("hermes", "a <tool_c"),
        ("hermes", 'see <tool_call>{"nam'),
        ("hermes", CALL),  # without its mark
        ("json", '{"temperature": 21, "unit": "C"}'),
        ("json", "[1, 2, 3]"),
        ("json", f"The call is {CALL}"),
        ("json", "[]"),
        ("llama3", "Just text.  \n"),
        ("pythonic", "[see(above)] is a citation"),
        ("pythonic", "[1] is a citation"),
        ("mistral", "[TOOL_CALLS]nobody[ARGS]{}"),
    ],
)
def test_what_is_no_call_of_a_known_function_is_text(name: str, written: str) -> None:
    for pieces in ([written], list(written)):
        assert read(form(name), pieces) == Read(text=written)


def test_arguments_stream_as_they_come() -> None:
    reader = AnswerReader(form("hermes"))
    pieces = ['<tool_call>{"name": "weather",', ' "arguments": {"ci', 'ty": "x', '"}}']
    heard = [[(call.name, call.arguments) for call in reader.push(p).calls] for p in pieces]
    assert heard == [[("weather", "")], [(None, '{"ci')], [(None, 'ty": "x')], [(None, '"}')]]


def test_a_call_that_breaks_off_keeps_what_was_written_and_the_next_is_read() -> None:
    written = (
        '<tool_call>{"name": "weather", "arguments": {"a": ]</tool_call>'
        '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
    )
    found = read(form("hermes"), list(written))
    assert found == Read(calls=[("weather", '{"a": ]'), ("get_time", "{}")])


@pytest.mark.parametrize(
    ("written", "inside", "reasoning", "text"),
    [
        ("<think>\nhm, so\n\n</think>\n\nHello", False, "hm, so", "Hello"),
        ("\nhm\n</think>\nHello\n", True, "hm", "Hello\n"),
        ("Hello <think>x</think>", False, "", "Hello <think>x</think>"),
        ("<think></think>Hello", False, "", "Hello"),
        (" <thi", False, "", " <thi"),
        ("<think>never ends </thi", False, "never ends </thi", ""),
    ],
)
def test_thoughts_are_told_from_the_answer(
    written: str, inside: bool, reasoning: str, text: str
) -> None:
    made = AnswerForm(reasoning=THINK, starts_in_reasoning=inside)
    for pieces in ([written], list(written)):
        assert read(made, pieces) == Read(text=text, reasoning=reasoning)


def test_a_call_within_thoughts_is_a_thought() -> None:
    mark = f"<tool_call>{CALL}</tool_call>"
    found = read(form("hermes", reasoning=THINK), [f"<think>{mark}</think>{mark}"])
    assert found == Read(reasoning=mark, calls=[("weather", ARGUMENTS)])


PIECES = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "<|python_tag|>",
        "[ARGS]",
    ]
    + ['{"name": "weather"', ', "arguments": ', "{", "}", "[", "]", '"', "\\", ":", ",", "weather"]
    + ["(a=1", ")", "1", " ", "\n", "x", '{"a": "b"}', "<", "'", CALL]
)


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(PIECES, max_size=14).map("".join),
    st.lists(st.integers(1, 7), max_size=40),
    st.booleans(),
)
def test_any_text_is_read_the_same_however_it_is_cut(
    name: str, written: str, cuts: list[int], inside: bool
) -> None:
    made = form(name, reasoning=THINK, starts_in_reasoning=inside)
    pieces, rest = [], written
    for size in cuts:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert read(made, [*pieces, rest]) == read(made, [written])
    if not any(mark in written for mark in ("weather", "think>")) and not inside:
        assert read(made, [written]).text == written
