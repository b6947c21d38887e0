"""What a front refuses: with which status, naming what, and writing nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2

CHAT = pb.Chat(messages=[pb.ChatMessage(role=pb.ROLE_USER, content="hi")])

BAD_SPECS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": None}, "spec.input", "exactly one of prompt, chat, token_ids must be set"),
    ({"sampling": {"temperature": 7.5}}, "spec.sampling.temperature", "between 0 and 5, not 7.5"),
    ({"sampling": {"temperature": float("nan")}}, "spec.sampling.temperature", "not nan"),
    ({"sampling": {"top_p": 0.0}}, "spec.sampling.top_p", "above 0 and at most 1, not 0"),
    ({"sampling": {"min_p": float("inf")}}, "spec.sampling.min_p", "between 0 and 1, not inf"),
    ({"sampling": {"repetition_penalty": 0}}, "spec.sampling.repetition_penalty", "above 0"),
    ({"sampling": {"presence_penalty": 3}}, "spec.sampling.presence_penalty", "between -2 and 2"),
    ({"sampling": {"frequency_penalty": -3}}, "spec.sampling.frequency_penalty", "-2 and 2"),
    ({"sampling": {"logit_bias": {1: 101}}}, "spec.sampling.logit_bias[1]", "-100 and 100"),
    ({"sampling": {"logit_bias": {10**6: 1}}}, "spec.sampling.logit_bias[0]", "vocabulary"),
    ({"max_tokens": 0}, "spec.max_tokens", "at least 1"),
    ({"max_tokens": 4092}, "spec.max_tokens", "at most 4091, not 4092"),
    ({"min_tokens": 9, "max_tokens": 8}, "spec.min_tokens", "at most 8"),
    ({"max_tokens": 0, "prompt_logprobs": 1, "prompt": "a"}, "spec.prompt", "at least two"),
    ({"max_tokens": 0, "prompt_logprobs": 1, "n": 2}, "spec.n", "1 with max_tokens 0"),
    ({"prompt_logprobs": 21}, "spec.prompt_logprobs", "between 0 and 20, not 21"),
    ({"n": 17}, "spec.n", "between 1 and 16, not 17"),
    ({"logprobs": 21}, "spec.logprobs", "between 0 and 20, not 21"),
    ({"stop": ["x"] * 17}, "spec.stop", "at most 16, not 17"),
    ({"stop": ["x", ""]}, "spec.stop[1]", "1 to 256 characters, not 0"),
    ({"stop_token_ids": [1, 258]}, "spec.stop_token_ids[1]", "vocabulary size 258"),
    ({"token_ids": {"ids": [5, 999]}}, "spec.token_ids.ids[1]", "not 999"),
    ({"token_ids": {"ids": []}}, "spec.token_ids.ids", "at least 1, not 0"),
    ({"prompt": ""}, "spec.prompt", "at least one token"),
    ({"prompt": "x" * 4096}, "spec.prompt", "4096 tokens long"),
    ({"prompt": "x" * (4 * 1024 * 1024 + 1)}, "spec.prompt", "at most 4,194,304 bytes"),
    ({"prompt": "\ufdd0"}, "spec.prompt", "noncharacters"),
    ({"chat": {"messages": []}}, "spec.chat.messages", "at least 1"),
    ({"chat": {"messages": [{"content": "x"}]}}, "spec.chat.messages[0].role", "ROLE_USER"),
    ({"priority": 9}, "spec.priority", "PRIORITY_HIGH, not 9"),
    ({"on_disconnect": 9}, "spec.on_disconnect", "not 9"),
    ({"timeout": {"seconds": 0}}, "spec.timeout", "above 0 s"),
    ({"timeout": {"seconds": 90_000}}, "spec.timeout", "at most 86400 s, not 90000 s"),
    ({"queue_timeout": {"seconds": 1, "nanos": -1}}, "spec.queue_timeout", "above 0 s"),
    ({"response_format": {}}, "spec.response_format.format", "exactly one of"),
    ({"response_format": {"regex": "(a"}}, "spec.response_format.regex", "character 1: unclosed"),
    ({"tools": [{"name": "f"}]}, "spec.tools", "needs chat input"),
    ({"model": "x" * 257}, "spec.model", "0 to 256 characters, not 257"),
]


@pytest.mark.parametrize(("changes", "field", "text"), BAD_SPECS)
async def test_a_bad_field_is_named_with_its_limit(
    front: Any, refused: Any, database: Any, changes: dict[str, Any], field: str, text: str
) -> None:
    given: dict[str, Any] = {} if {"chat", "token_ids"} & set(changes) else {"prompt": "hello"}
    spec = pb.GenerationSpec(**(given | changes))
    before = set(database.keys())
    refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    assert refusal.code.name == "INVALID_ARGUMENT"
    assert refusal.fields == [field]
    assert text in refusal.message
    assert refusal.message.startswith(f"{field}: ")
    assert set(database.keys()) == before


async def test_everything_wrong_is_said_at_once(front: Any, refused: Any) -> None:
    spec = pb.GenerationSpec(logprobs=99, n=30, sampling=pb.Sampling(temperature=-1))
    call = front.generations.CreateGeneration(
        rpc.CreateGenerationRequest(request_id="no spaces", spec=spec)
    )
    assert set((await refused(call)).fields) == {
        *("request_id", "spec.input", "spec.logprobs", "spec.n", "spec.sampling.temperature")
    }


async def test_a_thousand_wrong_messages_make_an_answer_that_still_fits(
    front: Any, refused: Any
) -> None:
    chat = pb.Chat(messages=[pb.ChatMessage()] * 1024)
    call = front.generations.Generate(rpc.GenerateRequest(spec=pb.GenerationSpec(chat=chat)))
    refusal = await refused(call)
    assert refusal.code.name == "INVALID_ARGUMENT"
    assert "and 1020 more" in refusal.message


async def test_a_field_of_a_later_contract_is_refused(front: Any, refused: Any) -> None:
    spec = pb.GenerationSpec.FromString(b"\xc2\x3e\x01x" + b"\x12\x02hi")  # field 1000
    refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    assert "field number 1000" in refusal.message


async def test_bytes_that_are_no_request_are_refused(front: Any, refused: Any) -> None:
    for method in ("Generate", "CreateGeneration", "ListGenerations"):
        call = front.channel.unary_unary(f"/miao.v1.GenerationService/{method}")
        refusal = await refused(call(b"\xff\xff"))
        assert refusal.code.name == "INVALID_ARGUMENT"
        assert "not a valid" in refusal.message


async def test_a_missing_spec_or_id_is_required(front: Any, refused: Any) -> None:
    assert (await refused(front.generations.Generate(rpc.GenerateRequest()))).fields == ["spec"]
    call = front.generations.GetGeneration(rpc.GetGenerationRequest())
    assert (await refused(call)).fields == ["generation_id"]


async def test_an_unknown_model_is_refused_with_those_there_are(front: Any, refused: Any) -> None:
    spec = pb.GenerationSpec(model="huge", prompt="hi")
    refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    assert refusal.code.name == "NOT_FOUND"
    assert refusal.reason == "MODEL_NOT_FOUND"
    assert "'huge'" in refusal.message
    assert "tiny" in refusal.message


async def test_no_model_name_is_refused_where_several_are_served(
    front: Any, refused: Any, make_worker: Any
) -> None:
    make_worker("other").announce()
    spec = pb.GenerationSpec(prompt="hi")
    await front.models.ListModels(model_service_pb2.ListModelsRequest())
    refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    assert refusal.fields == ["spec.model"]
    assert "other, tiny" in refusal.message


async def test_a_model_without_a_live_worker_is_unavailable(
    front: Any, worker: Any, refused: Any, database: Any
) -> None:
    worker.presence.withdraw()
    spec = pb.GenerationSpec(model="tiny", prompt="hi")
    refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    assert refusal.code.name == "UNAVAILABLE"
    assert refusal.reason == "NO_WORKER"
    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.seconds > 0
    assert not database.keys("miao:gen:*")


async def test_a_model_without_a_live_worker_may_queue_by_a_setting(
    start_front: Any, worker: Any
) -> None:
    worker.presence.withdraw()
    async with start_front(queue_without_worker=True) as front:
        spec = pb.GenerationSpec(prompt="hi")
        call = front.generations.Generate(rpc.GenerateRequest(spec=spec))
        await worker.answer("a")
        assert [1 async for _ in call]


async def test_a_full_backlog_is_named_and_nothing_is_written(
    start_front: Any, worker: Any, refused: Any, database: Any
) -> None:
    async with start_front(backlog_limit=2) as front:
        for index in range(2):
            await front.generations.CreateGeneration(
                rpc.CreateGenerationRequest(
                    request_id=f"r{index}", spec=pb.GenerationSpec(prompt="hi")
                )
            )
        before = set(database.keys())
        call = front.generations.Generate(rpc.GenerateRequest(spec=pb.GenerationSpec(prompt="hi")))
        refusal = await refused(call)
        assert set(database.keys()) == before
    assert refusal.code.name == "RESOURCE_EXHAUSTED"
    assert "the limit is 2" in refusal.message
    (violation,) = refusal.detail(error_details_pb2.QuotaFailure).violations
    assert violation.subject == "backlog:tiny"
    assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.seconds > 0


async def test_a_burst_far_over_the_backlog_is_refused_soon_while_accepted_work_goes_on(
    start_front: Any, worker: Any, refused: Any, as_text: Any
) -> None:
    async with start_front(backlog_limit=50) as front:
        spec = pb.GenerationSpec(prompt="hi")
        running = aiter(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
        await anext(running)
        claimed = await worker.next()

        async def ask() -> tuple[str, int]:
            call = front.generations.CreateGeneration(rpc.CreateGenerationRequest(spec=spec))
            try:
                await call
            except grpc.aio.AioRpcError:
                refusal = await refused(call)
                retry = refusal.detail(error_details_pb2.RetryInfo).retry_delay
                return refusal.code.name, retry.seconds
            return "OK", 0

        async def say() -> str:
            for letter in "abcdefghij":
                worker.say(claimed, letter)
                assert (await anext(running)).event.tokens.text == letter
            worker.finish(claimed)
            return as_text([response async for response in running])

        async with asyncio.timeout(20):
            *outcomes, rest = await asyncio.gather(*(ask() for _ in range(500)), say())
        assert Counter(outcomes) == {("OK", 0): 50, ("RESOURCE_EXHAUSTED", 1): 450}
        assert rest == ""


async def test_unknown_generations_are_not_found(front: Any, refused: Any) -> None:
    for call in (
        front.generations.GetGeneration(rpc.GetGenerationRequest(generation_id="nothing")),
        front.generations.CancelGeneration(rpc.CancelGenerationRequest(generation_id="nothing")),
        front.generations.FollowGeneration(rpc.FollowGenerationRequest(generation_id="nothing")),
    ):
        refusal = await refused(call)
        assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "GENERATION_NOT_FOUND")


async def test_a_page_token_that_is_none_is_refused(front: Any, refused: Any) -> None:
    for token in ("nonsense", "MTI=", "é"):
        request = rpc.ListGenerationsRequest(page_token=token)
        assert (await refused(front.generations.ListGenerations(request))).fields == ["page_token"]


async def test_chat_without_a_template_is_refused(
    front: Any, refused: Any, make_worker: Any
) -> None:
    make_worker("plain", chat_template="").announce()
    make_worker("picky", chat_template="{{ raise_exception('roles must alternate') }}").announce()
    for model, text in (("plain", "no chat template"), ("picky", "roles must alternate")):
        spec = pb.GenerationSpec(model=model, chat=CHAT)
        refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
        assert refusal.fields == ["spec.chat"]
        assert text in refusal.message


async def test_a_fault_of_ours_says_no_more_than_its_number(
    front: Any, refused: Any, monkeypatch: Any, caplog: Any
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("a secret prompt")

    monkeypatch.setattr(front.front.catalog, "resolve", fail)
    spec = pb.GenerationSpec(prompt="another secret")
    refusal = await refused(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    assert refusal.code.name == "INTERNAL"
    assert "secret" not in refusal.message
    assert "secret" not in caplog.text
    assert refusal.message.split()[-1] in caplog.text
