"""Encoders through the whole service: the answers of transformers, once, whoever dies."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from redis import Redis
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from miao_client import (
    AsyncClient,
    Client,
    Embeddings,
    GenerationFailedError,
    InvalidRequestError,
    Task,
)
from miao_queue import keys
from miao_worker.stack import Stack
from tests.integration.understanding import poisoned_worker
from tests.integration.understanding.conftest import Worker

TEXTS = ["the fox", "the quick brown fox jumps over the lazy dog", "dog", "a query asks"]


@torch.inference_mode()
def embed_by_hand(folder: Path, text: str) -> torch.Tensor:
    """What sentence-transformers makes of a text with the fixture's modules."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    encoded = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    pooled = model(**encoded).last_hidden_state[0].mean(0)
    layer = load_file(folder / "2_Dense/model.safetensors")
    vector = torch.tanh(layer["linear.weight"] @ pooled + layer["linear.bias"])
    return vector / vector.norm()


def test_models_say_what_they_are_for(client: Client) -> None:
    cross, sentence = client.models()
    assert (cross.name, cross.tasks) == ("tiny-cross", (Task.RERANK, Task.CLASSIFY))
    assert (sentence.name, sentence.tasks) == ("tiny-sentence", (Task.EMBED,))
    assert (sentence.embedding_dimensions, sentence.max_model_length) == (8, 48)
    assert sentence.prompt_names == ("query",)
    assert cross.labels == ("LABEL_0",)


async def test_embeddings_are_those_of_transformers(
    client: Client, stack: Stack, sentence_model: Path
) -> None:
    found = client.embed(TEXTS)
    for text, vector in zip(TEXTS, found.vectors, strict=True):
        torch.testing.assert_close(torch.tensor(vector), embed_by_hand(sentence_model, text))
    assert (found.model, found.dimensions) == ("tiny-sentence", 8)
    assert found.input_tokens == sum(each.num_tokens for each in found.embeddings)
    assert found.timings.total_seconds is not None
    async with AsyncClient(stack.address) as other:
        asked = await other.embed("fox", prompt_name="query", dimensions=4)
    expected = embed_by_hand(sentence_model, "query : fox")[:4]
    torch.testing.assert_close(torch.tensor(asked.vectors[0]), expected / expected.norm())


def test_documents_are_ranked_as_transformers_scores_them(
    client: Client, cross_encoder: Path
) -> None:
    found = client.rerank("the query", TEXTS)
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(cross_encoder)
    with torch.inference_mode():
        logits = [model(**tokenizer("the query", t, return_tensors="pt")).logits for t in TEXTS]
    scores = torch.cat(logits)[:, 0].sigmoid()
    order = scores.argsort(descending=True).tolist()
    assert [each.index for each in found.results] == order
    assert [each.document for each in found.results] == [TEXTS[i] for i in order]
    for each in found.results:
        assert each.score == pytest.approx(float(scores[each.index]), abs=1e-5)
    assert client.classify([("the query", TEXTS[0])]).classifications[0].best.score == (
        pytest.approx(float(scores[0]), abs=1e-5)
    )


def test_a_label_is_explained_by_the_words_of_both_texts(
    client: Client, cross_encoder: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder).eval()
    pair = ("the fox", "lazy dog")
    encoded = AutoTokenizer.from_pretrained(cross_encoder)(*pair)
    ids, types = encoded["input_ids"], encoded["token_type_ids"]

    @torch.inference_mode()
    def value(keep: list[int]) -> float:
        chosen = [torch.tensor([[row[i] for i in keep]]) for row in (ids, types)]
        logit = model(input_ids=chosen[0], token_type_ids=chosen[1]).logits[0, 0]
        return float(torch.nn.functional.logsigmoid(logit))

    found = client.explain_label(pair, model="tiny-cross", label="LABEL_0")
    (attribution,) = found.attributions
    everything = list(range(len(ids)))
    for place, token in enumerate(found.input):
        rest = [i for i in everything if i != place]
        expected = 0.0 if token.is_special else value(everything) - value(rest)
        assert attribution.scores[place] == pytest.approx(expected, abs=1e-4)
        if not token.is_special:
            text = pair[token.text_index].encode()
            assert text[token.start_byte : token.end_byte].decode() == token.text
    assert (attribution.label, found.labels[0].label) == ("LABEL_0", "LABEL_0")
    complete = client.explain_label(
        pair, model="tiny-cross", method="integrated_gradients", steps=128
    ).attributions[0]
    assert abs(complete.delta or 1) < 0.05
    with pytest.raises(InvalidRequestError, match="must be one of the model's labels: LABEL_0"):
        client.explain_label(pair, model="tiny-cross", label="x")
    with pytest.raises(InvalidRequestError, match="is not for Classify"):
        client.explain_label(pair, model="tiny-sentence")


def test_who_asks_the_wrong_model_is_told_what_it_is_for(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="is not for Embed; it is for Classify, Rerank"):
        client.embed("x", model="tiny-cross")
    with pytest.raises(InvalidRequestError, match="is not for Generate; it is for Embed"):
        _ = client.generate("x", model="tiny-sentence").text
    assert len(client.tokenize("the fox", model="tiny-sentence").token_ids) == 4


def test_the_command_line_embeds_and_ranks(stack: Stack) -> None:
    def miao(*arguments: str) -> str:
        command = [sys.executable, "-m", "miao_client.cli", *arguments, "--target", stack.address]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "FIRST OF 8" in miao("embed", "the fox", "dog")
    assert "the lazy dog" in miao("rerank", "fox", "the lazy dog", "fox", "--top-n", "2")


def test_an_answer_survives_its_engine_and_its_worker(
    stack: Stack, sentence_model: Path, start_worker: Callable[[], Worker]
) -> None:
    worker = psutil.Process(stack._parts[0].process.pid)

    def engine() -> psutil.Process:
        return next(c for c in worker.children(recursive=True) if c.name() == "miao-engine")

    with Client(stack.address, timeout=60) as client, ThreadPoolExecutor(1) as threads:

        def asked() -> Future[Embeddings]:
            """An Embed that the worker has claimed, and that its engine cannot come to."""
            engine().suspend()
            call = threads.submit(client.embed, TEXTS, model="tiny-sentence")
            with Redis.from_url(stack.redis_url) as redis:
                wait_until(lambda: bool(redis.zcard(keys.LEASES)))
            return call

        expected = client.embed(TEXTS, model="tiny-sentence").vectors
        call = asked()
        engine().kill()
        assert call.result(30).vectors == expected
        wait_until(lambda: any(c.name() == "miao-engine" for c in worker.children(recursive=True)))
        call = asked()
        worker.kill()
        start_worker()
        assert call.result(50).vectors == expected


def test_what_redis_forgets_of_a_request_is_answered_all_the_same(
    stack: Stack, start_worker: Callable[..., Worker]
) -> None:
    started = start_worker("--name", "forgetful")
    started.wait_ready()
    worker = psutil.Process(started.process.pid)
    engine = next(c for c in worker.children(recursive=True) if c.name() == "miao-engine")
    with (
        Client(stack.address, timeout=60, model="forgetful") as client,
        Redis.from_url(stack.redis_url) as redis,
        ThreadPoolExecutor(1) as threads,
    ):
        expected = client.embed(TEXTS).vectors
        engine.suspend()
        call = threads.submit(client.embed, TEXTS)
        wait_until(lambda: bool(redis.zcard(keys.LEASES)))
        (claimed,) = (member.decode() for member in redis.zrange(keys.LEASES, 0, -1))
        with redis.pipeline() as pipeline:  # as after a restart without the last seconds
            pipeline.delete(keys.generation(claimed), keys.journal(claimed))
            pipeline.zrem(keys.LEASES, claimed)
            pipeline.execute()
        engine.resume()
        assert call.result(50).vectors == expected
        wait_until(lambda: bool(redis.exists(keys.generation(claimed))))
        assert 0 < redis.ttl(keys.generation(claimed)) <= 120


def test_a_request_that_kills_its_engine_ends_alone(
    stack: Stack, start_worker: Callable[..., Worker]
) -> None:
    start_worker("--name", "poisoned", main=poisoned_worker.main).wait_ready()
    with Client(stack.address, timeout=60) as client, ThreadPoolExecutor(9) as threads:
        expected = client.embed(TEXTS, model="poisoned").vectors
        calls = [threads.submit(client.embed, TEXTS, model="poisoned") for _ in range(4)]
        poison = threads.submit(client.embed, ["dog"] * poisoned_worker.POISON, model="poisoned")
        calls += [threads.submit(client.embed, TEXTS, model="poisoned") for _ in range(4)]
        with pytest.raises(GenerationFailedError, match="the engine failed 3 times while it ran"):
            poison.result(60)
        for call in calls:
            assert call.result(60).vectors == expected
        assert client.embed(TEXTS, model="poisoned").vectors == expected


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
