"""Explanations through the whole service: transformers' numbers, once, whoever dies."""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from redis import Redis
from transformers import AutoModelForCausalLM, AutoTokenizer

from miao_client import (
    AsyncClient,
    Client,
    ExplainMethod,
    Explanation,
    GenerationFailedError,
    InvalidRequestError,
    Priority,
    TokenIds,
)
from miao_client.cli.app import run
from miao_queue import keys
from miao_worker.stack import Stack

PROMPT = "the quick brown 春天 fox"


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@torch.inference_mode()
def logprobs(model: Any, prompt: list[int], output: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + output])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1)


def assert_leaves_out(found: Explanation, model: Any, prompt: list[int]) -> None:
    """Each share is what its token's absence costs, and candidates are the softmax's."""
    output = [token.token_id for token in found.output]
    table = logprobs(model, prompt, output)
    assert [token.token_id for token in found.input] == prompt
    for attribution in found.attributions:
        at = attribution.output_index
        assert at is not None
        expected = [
            float(table[at, output[at]] - logprobs(model, rest, output)[at, output[at]])
            for rest in (prompt[:i] + prompt[i + 1 :] for i in range(len(prompt)))
        ]
        assert attribution.scores == pytest.approx(expected, abs=5e-4)
    for row, said in zip(table, found.output, strict=True):
        values, ids = row.topk(len(said.candidates))
        assert said.logprob == pytest.approx(float(row[said.token_id]), abs=2e-4)
        assert [each.token_id for each in said.candidates] == ids.tolist()
        assert [each.logprob for each in said.candidates] == pytest.approx(
            values.tolist(), abs=2e-4
        )


def test_a_text_a_chat_and_token_ids_are_explained(
    client: Client, model: Any, tokenizer: Any
) -> None:
    prompt = list(tokenizer.encode(PROMPT))
    found = client.explain(PROMPT, max_tokens=3, candidates=3, request_id="explained")
    assert found.method is ExplainMethod.LEAVE_ONE_OUT
    assert_leaves_out(found, model, prompt)
    assert found.texts == (PROMPT,)
    data = PROMPT.encode()
    for token in found.input:
        if token.text:
            assert data[token.start_byte : token.end_byte].decode().endswith(token.text)
    assert client.explain(PROMPT, max_tokens=3, candidates=3, request_id="explained") == found
    given = client.explain(TokenIds(prompt), output=TokenIds([7, 9]), positions=[1])
    assert_leaves_out(given, model, prompt)
    assert [each.output_index for each in given.attributions] == [1]
    messages = [{"role": "user", "content": "fox"}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    chat = client.explain(messages, output="the fox")
    assert_leaves_out(chat, model, list(asked))
    assert chat.output_text == "the fox"
    assert chat.texts[0].startswith("<|im_start|>user\nfox<|im_end|>")
    assert chat.input[0].is_special
    joined = client.explain("the quick bro", output="wn fox")  # one token across the border
    assert joined.texts[0] + joined.output_text == "the quick brown fox"
    assert "explained" not in {each.request_id for each in client.list()}  # no generation


async def test_gradients_beside_generations_and_their_sum(
    stack: Stack, client: Client, model: Any, tokenizer: Any
) -> None:
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(
            lambda: client.generate(PROMPT, max_tokens=60, temperature=0, ignore_eos=True).result()
        )
        async with AsyncClient(stack.address) as other:
            found = await other.explain(
                PROMPT,
                output=TokenIds([7, 9]),
                method="integrated_gradients",
                steps=256,
                priority=Priority.HIGH,
                queue_timeout=60.0,
            )
        assert len(beside.result(60).token_ids) == 60
    table = logprobs(model, list(tokenizer.encode(PROMPT)), [7, 9])
    for attribution, at, token in zip(found.attributions, (0, 1), (7, 9), strict=True):
        assert attribution.value == pytest.approx(float(table[at, token]), abs=2e-4)
        assert attribution.baseline_value is not None
        difference = attribution.value - attribution.baseline_value
        assert attribution.delta == pytest.approx(sum(attribution.scores) - difference, abs=1e-4)
        assert abs(attribution.delta or 0) < 0.1 * max(1.0, abs(difference))
    whole = client.explain(
        PROMPT, output=TokenIds([7, 9]), method="gradient_x_input", whole_output=True
    )
    assert whole.attributions[0].output_index is None
    assert whole.attributions[0].value == pytest.approx(
        sum(each.value for each in found.attributions), abs=1e-3
    )


@pytest.mark.parametrize(
    ("prompt", "settings", "field"),
    [
        ("x y", {"max_tokens": 65}, "spec.max_tokens"),
        ("x y", {"max_tokens": 2, "output": "z"}, "spec.max_tokens"),
        ("x y", {"candidates": 21}, "spec.candidates"),
        ("x y", {"steps": 16}, "spec.steps"),
        ("x y", {"method": "integrated_gradients", "steps": 257}, "spec.steps"),
        ("x y", {"positions": [2, 1]}, "spec.positions"),
        ("x y", {"output": "z", "positions": [40]}, "spec.positions"),
        ("x y", {"output": ""}, "spec.output_text"),
        ("x y", {"output": TokenIds([9999])}, "spec.output_token_ids.ids[0]"),
        ("x y", {"model": "other"}, ""),
        (TokenIds([5]), {}, "spec.token_ids"),
        (TokenIds([5] * 500), {}, "spec.token_ids"),
        (
            TokenIds([5] * 300),
            {"max_tokens": 64, "method": "integrated_gradients"},
            "spec.token_ids",
        ),
        ("", {}, "spec.prompt"),
    ],
)
def test_what_cannot_be_explained_is_refused_by_its_field_and_limit(
    client: Client, stack: Stack, prompt: Any, settings: Any, field: str
) -> None:
    if not field:
        with pytest.raises(Exception, match="no model named 'other'"):
            client.explain(prompt, **settings)
        return
    with pytest.raises(InvalidRequestError) as refused:
        client.explain(prompt, **settings)
    assert [violation.field for violation in refused.value.violations] == [field]
    with Redis.from_url(stack.redis_url) as redis:
        assert not redis.zcard(keys.WAITING)


def test_a_model_that_generates_has_no_labels(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="no model served is for Classify"):
        client.explain_label("x")
    assert client.models()[0].explain_methods == (
        ExplainMethod.LEAVE_ONE_OUT,
        ExplainMethod.GRADIENT_X_INPUT,
        ExplainMethod.INTEGRATED_GRADIENTS,
    )


def test_positions_behind_what_is_said_are_a_refusal(client: Client, tokenizer: Any) -> None:
    found = client.explain(PROMPT, max_tokens=64, candidates=0)
    if len(found.output) < 64:
        with pytest.raises(GenerationFailedError, match="none of the positions"):
            client.explain(PROMPT, max_tokens=64, positions=[63])
    some = client.explain(PROMPT, max_tokens=64, positions=[0, 63])
    assert some.attributions[0].output_index == 0


def test_an_explanation_survives_its_engine(stack: Stack) -> None:
    pid = next(part.process.pid for part in stack._parts if part.name == "worker")
    worker = psutil.Process(pid)

    def engine() -> psutil.Process:
        return next(c for c in worker.children(recursive=True) if c.name() == "miao-engine")

    options: Any = {"method": "integrated_gradients", "steps": 16, "max_tokens": 2}
    with Client(stack.address, timeout=60) as client, ThreadPoolExecutor(1) as threads:
        expected = client.explain(PROMPT, **options)
        before = engine()
        before.suspend()
        call = threads.submit(client.explain, PROMPT, **options)
        with Redis.from_url(stack.redis_url) as redis:
            deadline = time.monotonic() + 30
            while not redis.zcard(keys.LEASES):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        before.kill()
        found = call.result(60)
    assert found.output == expected.output
    for mine, theirs in zip(found.attributions, expected.attributions, strict=True):
        assert mine.scores == pytest.approx(theirs.scores, abs=1e-3)


def test_the_command_line_explains_in_colour_as_json_and_as_a_page(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ["--target", stack.address]
    page = tmp_path / "why.html"
    arguments = ["explain", PROMPT, "--max-tokens", "2", "--html", str(page), *target]
    assert run(arguments) == 0
    said = capsys.readouterr().out
    assert "leaving one out" in said
    assert "PROBABILITY" in said
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert run(["explain", PROMPT, "--max-tokens", "2", "--json", *target]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["attributions"]) == len(document["output"])
    assert run(["explain", PROMPT, "--classify", *target]) == 1
    assert re.search("no model served is for Classify", capsys.readouterr().err)
