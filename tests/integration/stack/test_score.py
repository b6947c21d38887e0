"""Scores equal transformers' own logits, in float32, through the whole service."""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from miao_client import AsyncClient, Client, InvalidRequestError, Score, TokenIds
from miao_client.cli.app import run
from miao_worker.stack import Stack

PROMPT, TEXT = "the quick brown", " fox jumps 春天 over"


class Reference:
    """What transformers says."""

    def __init__(self, folder: Path) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text))

    def logprobs(self, ids: list[int], start: int) -> list[float]:
        with torch.inference_mode():
            table = torch.log_softmax(self._model(torch.tensor([ids])).logits[0], dim=-1)
        return [float(table[i - 1, ids[i]]) for i in range(max(1, start), len(ids))]

    def chat_ids(self, messages: list[dict[str, str]]) -> list[int]:
        made = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        return list(made["input_ids"])


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Reference:
    return Reference(tiny_model)


def assert_is(score: Score, ids: list[int], logprobs: list[float]) -> None:
    assert [token.token_id for token in score.tokens] == ids
    found = [token.logprob for token in score.tokens if token.logprob is not None]
    assert found == pytest.approx(logprobs, abs=2e-4)
    assert score.num_scored_tokens == len(logprobs)
    assert score.log_likelihood == pytest.approx(sum(logprobs), abs=1e-2)
    mean = score.log_likelihood / len(logprobs)
    assert score.perplexity == pytest.approx(math.exp(-mean), rel=1e-6)
    assert score.usage.output_tokens == 0


def test_a_text_alone_and_behind_a_prompt_a_chat_and_token_ids(
    client: Client, reference: Reference
) -> None:
    ids = reference.ids(TEXT)
    alone = client.score(TEXT, top_logprobs=2)
    assert_is(alone, ids, reference.logprobs(ids, 1))
    assert alone.tokens[0].logprob is None
    assert "".join(token.text for token in alone.tokens) == TEXT
    assert [len(token.top) for token in alone.tokens] == [0, *[2] * (len(ids) - 1)]
    whole, start = reference.ids(PROMPT + TEXT), len(reference.ids(PROMPT))
    behind = client.score(TEXT, prompt=PROMPT)
    assert_is(behind, whole[start:], reference.logprobs(whole, start))
    given = client.score(TokenIds([5, 6, 7]), prompt=TokenIds([8]))
    assert_is(given, [5, 6, 7], reference.logprobs([8, 5, 6, 7], 1))
    messages = [{"role": "user", "content": PROMPT}]
    context = reference.chat_ids(messages)
    answered = client.score(TEXT, prompt=messages)
    assert_is(answered, ids, reference.logprobs([*context, *ids], len(context)))


def test_many_beside_generations_and_once_for_a_request_id(
    client: Client, reference: Reference
) -> None:
    def call(i: int) -> Score:
        if i % 3 == 0:
            client.generate(PROMPT, max_tokens=30, temperature=0, ignore_eos=True).result()
        return client.score(f"{TEXT} {i}", prompt=PROMPT * 3, request_id=f"score-{i}")

    with ThreadPoolExecutor(9) as pool:
        scores = list(pool.map(call, range(9)))
    for i, score in enumerate(scores):
        whole = reference.ids(PROMPT * 3 + f"{TEXT} {i}")
        start = len(reference.ids(PROMPT * 3))
        assert_is(score, whole[start:], reference.logprobs(whole, start))
    again = client.score(f"{TEXT} 4", prompt=PROMPT * 3, request_id="score-4")
    assert again == scores[4]


async def test_the_asynchronous_client_scores(stack: Stack, reference: Reference) -> None:
    async with AsyncClient(stack.address) as client:
        scores = await asyncio.gather(*(client.score(TEXT, timeout=60) for _ in range(3)))
    ids = reference.ids(TEXT)
    for score in scores:
        assert_is(score, ids, reference.logprobs(ids, 1))


def test_a_stream_of_the_prompt_alone_holds_the_same(client: Client, reference: Reference) -> None:
    ids = reference.ids(TEXT)
    result = client.generate(TEXT, max_tokens=0, prompt_logprobs=0).result()
    assert result.prompt is not None
    assert list(result.prompt.token_ids) == ids
    found = [token.logprob for token in result.prompt.logprobs]
    assert found == pytest.approx([0.0, *reference.logprobs(ids, 1)], abs=2e-4)
    assert result.text == ""


@pytest.mark.parametrize(
    ("text", "settings", "field"),
    [
        ("", {}, "spec.text"),
        ("", {"prompt": "a"}, "spec.text"),
        ("x", {"top_logprobs": 21}, "spec.top_logprobs"),
        (TokenIds([1] * 600), {}, "spec.token_ids"),
        (TokenIds([1, 9999]), {}, "spec.token_ids"),
        ("x y z", {"timeout": 90_000.0}, "spec.timeout"),
    ],
)
def test_what_cannot_be_scored_is_refused_by_its_field(
    client: Client, text: str | TokenIds, settings: dict[str, float], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.score(text, **settings)  # type: ignore[arg-type]
    assert [violation.field for violation in refused.value.violations] == [field]


def test_the_command_line_scores(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", TEXT, "--prompt", PROMPT, "--top", "1", "--target", stack.address]) == 0
    lines = capsys.readouterr().out
    assert "perplexity" in lines
    assert "fox" in lines
