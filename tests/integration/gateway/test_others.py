"""Completions, embeddings and models, as the openai package sees them."""

from __future__ import annotations

import httpx2
import openai
import pytest

from miao.v1 import generation_pb2 as pb
from miao_client.testing import Fail, FakeService, Say


async def test_a_completion(miao_service: FakeService, client: openai.AsyncOpenAI) -> None:
    miao_service.will_say("b", "c")
    answer = await client.completions.create(model="fake", prompt="a", logprobs=0)
    assert (answer.id, answer.object) == (miao_service.last_generation.id, "text_completion")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("bc", "stop")
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["b", "c"]
    assert choice.logprobs.token_logprobs == [-0.5, -0.5]
    assert choice.logprobs.text_offset == [0, 1]
    spec = miao_service.requests("Generate")[0].spec
    assert (spec.prompt, spec.max_tokens, spec.logprobs) == ("a", 16, 0)


async def test_token_ids_echo_and_the_best_of_some(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say("b")
    await client.completions.create(
        model="fake",
        prompt=[5, 6],
        echo=True,
        logprobs=1,
        max_tokens=0,
        best_of=3,
        n=2,
        extra_body={
            "ranking": "total_logprob",
            "truncate_prompt_tokens": -1,
            "truncation_side": "right",
        },
    )
    spec = miao_service.requests("Generate")[0].spec
    assert list(spec.token_ids.ids) == [5, 6]
    assert (spec.echo, spec.prompt_logprobs, spec.logprobs) == (True, 1, 1)
    assert (spec.max_tokens, spec.best_of, spec.n) == (0, 3, 2)
    assert spec.ranking == pb.RANKING_TOTAL_LOGPROB
    assert spec.truncation == pb.TRUNCATION_KEEP_BEGINNING
    assert not spec.HasField("max_prompt_tokens")
    assert spec.HasField("max_tokens")


async def test_several_prompts_are_several_generations_in_one_answer(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.always_says("x", Say("y", answer=1))
    answer = await client.completions.create(
        model="fake", prompt=["a", "b"], n=2, extra_headers={"Idempotency-Key": "k"}
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == ["x", "xy"] * 2
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 6)
    requests = miao_service.requests("Generate")
    assert {request.request_id for request in requests} == {"k-0", "k-1"}
    assert (answer.model_extra or {})["generation_ids"][0] == answer.id


async def test_several_prompts_stream_side_by_side(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.always_says("x", "y")
    stream = await client.completions.create(
        model="fake",
        prompt=["a", "b"],
        stream=True,
        logprobs=0,
        stream_options={"include_usage": True},
    )
    said: dict[int, str] = {0: "", 1: ""}
    offsets: dict[int, list[int]] = {0: [], 1: []}
    reasons = []
    async for chunk in stream:
        for choice in chunk.choices:
            said[choice.index] += choice.text
            offsets[choice.index] += (choice.logprobs and choice.logprobs.text_offset) or []
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert said == {0: "xy", 1: "xy"}
    assert offsets == {0: [0, 1], 1: [0, 1]}
    assert reasons == ["stop", "stop"]
    assert chunk.usage is not None
    assert chunk.usage.completion_tokens == 4


async def test_one_of_several_prompts_that_fails_ends_the_rest(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say("x")
    miao_service.will_say("x", Fail("broken"))
    with pytest.raises(openai.InternalServerError, match="broken"):
        await client.completions.create(model="fake", prompt=["a", "b"])


async def test_embeddings_as_numbers_and_as_bytes_are_the_same(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    packed = await client.embeddings.create(model="fake", input=["a", "bc"])  # asks for base64
    plain = await client.embeddings.create(
        model="fake", input=["a", "bc"], encoding_format="float", dimensions=4
    )
    assert [each.index for each in packed.data] == [0, 1]
    assert [len(each.embedding) for each in packed.data] == [8, 8]
    assert [list(each.embedding[:4]) for each in packed.data] == [
        each.embedding for each in plain.data
    ]
    assert plain.usage.prompt_tokens == 3


async def test_models_are_listed_and_named(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    (model,) = [model async for model in client.models.list()]
    assert (model.id, model.owned_by) == ("fake", "miao")
    assert (await client.models.retrieve("fake")).id == "fake"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("Qwen/other")
    assert miao_service.requests("GetModel")[-1].name == "Qwen/other"


async def test_health_needs_no_key(address: str) -> None:
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{address}/health")).status_code == 200


async def test_a_trace_is_handed_on(miao_service: FakeService, address: str) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with httpx2.AsyncClient() as http:
        await http.get(f"{address}/v1/models", headers={"traceparent": trace})
    assert miao_service.calls[0].metadata["traceparent"] == trace
