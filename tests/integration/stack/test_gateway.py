"""OpenAI's package through the gateway's own process to a model and back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from miao_client import Client
from miao_worker.stack import Stack

HELLO: list[Any] = [{"role": "user", "content": "the quick brown fox"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["北京", "Paris"]}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Iterator[str]:
    program = [sys.executable, "-m", "miao_client.gateway", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*program, "--target", stack.address], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        yield process.stdout.readline().removeprefix("gateway listening on ").strip()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def caller(gateway: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://{gateway}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_both_doors_say_the_same(caller: openai.OpenAI, client: Client) -> None:
    ours = client.generate(HELLO, max_tokens=12, seed=3, temperature=1, ignore_eos=True).result()
    ask: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_completion_tokens": 12}
    ask |= {"seed": 3, "temperature": 1, "extra_body": {"ignore_eos": True}}
    whole = caller.chat.completions.create(**ask)
    assert whole.choices[0].message.content == ours.text
    assert whole.choices[0].finish_reason == "length"
    pieces = caller.chat.completions.create(**ask, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == ours.text
    assert client.get(whole.id, include_output=True).output is not None  # the id is the service's


def test_schemas_and_calls_are_followed(caller: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}
    answer = caller.chat.completions.create(
        model="tiny", messages=HELLO, response_format=form, temperature=1, seed=1
    )
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), SCHEMA)
    tool: Any = {"type": "function", "function": {"name": "trip", "parameters": SCHEMA}}
    choice: Any = {"type": "function", "function": {"name": "trip"}}
    answer = caller.chat.completions.create(
        model="tiny", messages=HELLO, tools=[tool], tool_choice=choice, temperature=1, seed=1
    )
    (called,) = answer.choices[0].message.tool_calls or []
    assert called.type == "function"
    jsonschema.validate(json.loads(called.function.arguments), SCHEMA)


def test_a_prompt_is_echoed_with_its_logprobs(caller: openai.OpenAI) -> None:
    answer = caller.completions.create(
        model="tiny", prompt="the quick", echo=True, logprobs=1, max_tokens=0
    )
    (choice,) = answer.choices
    assert choice.text == "the quick"
    assert choice.logprobs is not None
    tokens, values = choice.logprobs.tokens or [], choice.logprobs.token_logprobs or []
    assert values[0] is None
    assert all(value < 0 for value in values[1:])
    assert "".join(tokens) == choice.text
    assert [len("".join(tokens[:n])) for n in range(len(tokens))] == choice.logprobs.text_offset


def test_a_long_prompt_is_cut_and_tokens_are_left_out(
    caller: openai.OpenAI, client: Client
) -> None:
    ask: dict[str, Any] = {"model": "tiny", "prompt": "the quick brown fox", "temperature": 0}
    more: dict[str, Any] = {"ignore_eos": True, "truncate_prompt_tokens": 4}

    def said(**body: Any) -> list[int]:
        answer: Any = caller.completions.create(**ask, max_tokens=4, extra_body=more | body)
        assert answer.usage.prompt_tokens == 4
        output = client.get(answer.id, include_output=True).output
        assert output is not None
        return list(output.token_ids)

    first = said()
    assert first[0] not in said(bad_token_ids=[[first[0]]])
    with pytest.raises(openai.BadRequestError) as refused:
        said(bad_words=["x", ""])
    assert refused.value.param == "bad_words[1]"


def test_limits_are_the_services(caller: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="512") as refused:
        caller.chat.completions.create(model="tiny", messages=HELLO, max_tokens=100_000)
    assert refused.value.param == "max_tokens"
    with pytest.raises(openai.NotFoundError, match="tiny"):
        caller.chat.completions.create(model="other", messages=HELLO)
