"""Requests of OpenAI's clients, read field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from miao_client.gateway import chat_request, completion_request, embeddings
from miao_client.gateway.errors import Refusal
from miao_client.gateway.fields import Fields, parse

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "f", "strict": True}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "bot", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0]",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"messages": HELLO, "temperature": "hot"}, "temperature"),
        ({"messages": HELLO, "n": 1.5}, "n"),
        ({"messages": HELLO, "stream": "yes"}, "stream"),
        ({"messages": HELLO, "stop": [1]}, "stop"),
        ({"messages": HELLO, "logit_bias": {"x": 1}}, "logit_bias"),
        ({"messages": HELLO, "logit_bias": {"5": "much"}}, "logit_bias"),
        ({"messages": HELLO, "top_logprobs": 2}, "top_logprobs"),
        ({"messages": HELLO, "max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"messages": HELLO, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": HELLO, "tool_choice": "maybe"}, "tool_choice"),
        ({"messages": HELLO, "response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"messages": HELLO, "response_format": {"type": "json_schema"}},
            "response_format.json_schema",
        ),
        ({"messages": HELLO, "structured_outputs": {}}, "structured_outputs.json"),
        ({"messages": HELLO, "bad_words": "x"}, "bad_words"),
        ({"messages": HELLO, "bad_words": [5]}, "bad_words"),
        ({"messages": HELLO, "bad_token_ids": [5]}, "bad_token_ids"),
        ({"messages": HELLO, "truncation": "auto"}, "truncation"),
        ({"messages": HELLO, "truncation_side": "left"}, "truncation_side"),
        ({"messages": HELLO, "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"messages": HELLO, "truncate_prompt_tokens": -1}, "truncate_prompt_tokens"),
        (
            {"messages": HELLO, "truncate_prompt_tokens": 5, "max_prompt_tokens": 6},
            "truncate_prompt_tokens",
        ),
    ],
)
def test_a_wrong_field_of_a_chat_is_named(body: Any, param: str) -> None:
    with pytest.raises(Refusal) as refused:
        chat_request.read(Fields(body))
    assert (refused.value.param, refused.value.code) == (param, "invalid_value")
    assert refused.value.message.startswith(param)


UNSUPPORTED: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"functions": []}, "functions"),
    ({"audio": {}}, "audio"),
    ({"store": True}, "store"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"reasoning_effort": "high"}, "reasoning_effort"),
    ({"chat_template_kwargs": {"documents": []}}, "chat_template_kwargs.documents"),
    ({"tools": [TOOL]}, "tools[0].function.strict"),
    ({"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},)
    + ("parallel_tool_calls",),
    ({"stream": True, "stream_options": {"include_obfuscation": True}},)
    + ("stream_options.include_obfuscation",),
    ({"messages": [{"role": "user", "content": "x", "name": "me"}]}, "messages[0].name"),
    ({"use_beam_search": True}, "use_beam_search"),
    ({"skip_special_tokens": False}, "skip_special_tokens"),
    ({"continue_final_message": True}, "continue_final_message"),
    ({"allowed_token_ids": [5]}, "allowed_token_ids"),
]


@pytest.mark.parametrize(("body", "param"), UNSUPPORTED)
def test_what_cannot_be_honoured_is_never_passed_over(body: Any, param: str) -> None:
    asked = {"messages": HELLO, **body}
    with pytest.raises(Refusal) as refused:
        chat_request.read(Fields(asked))
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")
    lenient = Fields(asked, lenient=True)
    chat_request.read(lenient)
    assert lenient.ignored == [param]


def test_every_field_of_the_package_is_taken_or_refused_by_name() -> None:
    """Whatever OpenAI adds is refused until somebody looks at it."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    known = {"messages", "model", "user"}
    for name in CompletionCreateParamsBase.__annotations__.keys() - known:
        with pytest.raises(Refusal) as refused:
            chat_request.read(Fields({"messages": HELLO, name: object()}))
        assert refused.value.param == name


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"seed": NaN}', b"[" * 100_000, b'{"messages": "\\ud800"}'],
)
def test_a_body_that_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse(content)
    assert refused.value.code == "invalid_json"


def test_other_forms_of_output_have_vllms_names() -> None:
    for given in (
        {"json": {"type": "integer"}},
        {"regex": "a+"},
        {"grammar": 'start: "a"'},
        {"choice": ["a", "b"]},
    ):
        asked = chat_request.read(Fields({"messages": HELLO, "structured_outputs": given}))
        assert type(asked.options["response_format"]).__name__ in (
            "JsonSchema",
            "Regex",
            "Grammar",
            "Choices",
        )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt[1]"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "best_of"),
        ({"prompt": "a", "messages": []}, "messages"),
    ],
)
def test_a_wrong_field_of_a_completion_is_named(body: Any, param: str) -> None:
    with pytest.raises(Refusal) as refused:
        completion_request.read(Fields(body))
    assert refused.value.param == param


@pytest.mark.parametrize("given", [[], [[1, 2]], 5, None])
def test_embeddings_are_of_text(given: Any) -> None:
    with pytest.raises(Refusal) as refused:
        embeddings.read(Fields({"input": given}))
    assert refused.value.param == "input"


def test_a_request_is_read_from_its_bytes() -> None:
    asked = chat_request.read(Fields(parse(json.dumps({"messages": HELLO, "n": 2.0}).encode())))
    assert asked.options == {"n": 2}
