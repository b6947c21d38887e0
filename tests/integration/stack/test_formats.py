"""Formats through the whole stack, and through the death of an engine and of a worker."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
from typing import Any

import jsonschema
import psutil
import pytest
from typer.testing import CliRunner

from miao_client import (
    Choices,
    Client,
    FinishReason,
    Grammar,
    InvalidRequestError,
    JsonSchema,
    Regex,
)
from miao_client.cli.app import app
from miao_worker.stack import Stack

PROMPT = "the quick brown fox"
LONG: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[a-f]{80}$"},
        "list": {"type": "array", "items": {"enum": [1, 2]}, "minItems": 50, "maxItems": 60},
        "done": {"type": "boolean"},
    },
    "required": ["id", "list", "done"],
    "additionalProperties": False,
}


@dataclasses.dataclass(frozen=True)
class Answer:
    yes: bool
    day: int


def test_each_format_is_followed(client: Client) -> None:
    def ask(response_format: Any) -> Any:
        stream = client.generate(PROMPT, response_format=response_format, temperature=1, seed=3)
        result = stream.result()
        assert result.finish_reason is FinishReason.STOP
        return result

    assert ask(Choices("praise", "complaint")).text in ("praise", "complaint")
    assert re.fullmatch("[0-9]{2}:[0-9]{2}", ask(Regex("[0-9]{2}:[0-9]{2}")).text)
    assert ask(Grammar('start: "(" inner ")"\ninner: /[a-c]{1,3}/')).text[0] == "("
    assert isinstance(ask(Answer).parse(Answer), Answer)
    schema = {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 4}
    jsonschema.validate(ask(JsonSchema(schema)).json(), schema)


def test_a_wrong_format_is_refused_with_its_place(client: Client) -> None:
    schema = JsonSchema({"properties": {"age": {"type": "intege"}}})
    with pytest.raises(InvalidRequestError) as refused:
        client.generate(PROMPT, response_format=schema).result()
    (violation,) = refused.value.violations
    assert violation.field == "spec.response_format.json_schema"
    assert "#/properties/age" in violation.description


def processes(stack: Stack, name: str) -> list[psutil.Process]:
    (worker,) = (part for part in stack._parts if part.name == "worker")
    children = psutil.Process(worker.process.pid).children(recursive=True)
    return [child for child in children if child.name() == name]


def test_json_goes_on_validly_when_its_engine_dies(stack: Stack, client: Client) -> None:
    asked: dict[str, Any] = {
        "response_format": JsonSchema(LONG),
        "temperature": 1,
        "seed": 11,
        "max_tokens": 480,
    }
    undisturbed = client.generate(PROMPT, **asked).result()
    assert undisturbed.finish_reason is FinishReason.STOP
    jsonschema.validate(json.loads(undisturbed.text), LONG)
    stream = client.generate(PROMPT, **asked)
    num_killed = 0
    for chunk in stream:
        if chunk.sequence_number > 20 * (1 + 5 * num_killed) and num_killed < 2:
            (engine,) = processes(stack, "miao-engine")
            os.kill(engine.pid, signal.SIGKILL)
            engine.wait()
            num_killed += 1
    result = stream.result()
    assert num_killed == 2
    assert result.token_ids == undisturbed.token_ids
    assert result.text == undisturbed.text


def test_the_command_line_takes_formats(stack: Stack, tmp_path: Any) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "boolean"}')
    grammar = tmp_path / "grammar.lark"
    grammar.write_text('start: "<" /[ab]/ ">"')

    def run(*options: str) -> Any:
        return CliRunner().invoke(app, ["generate", PROMPT, "--target", stack.address, *options])

    assert run("--json-schema", str(schema)).output.strip() in ("true", "false")
    assert run("--grammar", str(grammar)).output.strip() in ("<a>", "<b>")
    assert run("--regex", "x{3}").output.strip() == "xxx"
    assert run("--choice", "是", "--choice", "否").output.strip() in ("是", "否")
    assert run("--choice", "a", "--regex", "b").exit_code == 2
