"""Chat completions, as the openai package sees them."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from miao.v1 import generation_pb2 as pb
from miao_client import FinishReason
from miao_client.testing import Cut, End, Fail, FakeService, Say, Wait
from miao_client.tools import ToolCallDelta

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def test_an_answer_whole(miao_service: FakeService, client: openai.AsyncOpenAI) -> None:
    miao_service.will_say("Good ", "day", End(FinishReason.LENGTH))
    answer = await client.chat.completions.create(model="fake", messages=HELLO)
    assert answer.id == miao_service.last_generation.id
    assert (answer.object, answer.model) == ("chat.completion", "fake")
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "Good day")
    assert choice.finish_reason == "length"
    assert choice.logprobs is None
    assert answer.usage is not None
    assert answer.usage.model_dump(include={"prompt_tokens", "completion_tokens"}) == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
    }
    (call,) = miao_service.calls
    assert call.metadata["authorization"] == "Bearer callers-key"
    assert answer._request_id == call.request.request_id


async def test_an_answer_in_pieces(miao_service: FakeService, client: openai.AsyncOpenAI) -> None:
    miao_service.will_say("Good ", Cut(), "day")
    stream = await client.chat.completions.create(
        model="fake", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert {chunk.id for chunk in chunks} == {miao_service.last_generation.id}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert said == ["", "Good ", "day", None]  # also over the broken connection behind it
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5


async def test_every_field_arrives(miao_service: FakeService, client: openai.AsyncOpenAI) -> None:
    miao_service.will_say("{}")
    await client.chat.completions.create(
        model="fake",
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
        ],
        temperature=0.5,
        top_p=0.9,
        frequency_penalty=0.25,
        presence_penalty=-0.5,
        seed=7,
        stop=["x", "y"],
        max_completion_tokens=11,
        logit_bias={"5": -100},
        logprobs=True,
        top_logprobs=2,
        n=2,
        user="somebody",
        response_format={"type": "json_object"},
        extra_body={
            "top_k": 4,
            "min_p": 0.125,
            "repetition_penalty": 1.5,
            "min_tokens": 1,
            "ignore_eos": True,
            "stop_token_ids": [9],
            "priority": "high",
            "timeout": 30,
            "queue_timeout": 2.5,
            "chat_template_kwargs": {"enable_thinking": False},
            "bad_words": ["x", " y"],
            "bad_token_ids": [[3, 4], [5]],
            "truncate_prompt_tokens": 900,
            "cache_salt": "of somebody",
            "skip_special_tokens": True,
        },
    )
    (request,) = miao_service.requests("Generate")
    spec = request.spec
    messages = [(message.role, message.content) for message in spec.chat.messages]
    assert messages == [(pb.ROLE_SYSTEM, "Be brief."), (pb.ROLE_USER, "ab")]
    assert (spec.model, spec.max_tokens, spec.min_tokens, spec.n) == ("fake", 11, 1, 2)
    assert (list(spec.stop), list(spec.stop_token_ids)) == (["x", "y"], [9])
    assert (spec.ignore_eos, spec.logprobs, spec.priority) == (True, 2, pb.PRIORITY_HIGH)
    assert (spec.timeout.seconds, spec.queue_timeout.nanos) == (30, 500_000_000)
    assert spec.chat.HasField("enable_thinking")
    assert json.loads(spec.response_format.json_schema) == {"type": "object"}
    assert [list(each.ids) for each in spec.bad_token_ids] == [[3, 4], [5]]
    assert (list(spec.bad_words), spec.cache_salt) == (["x", " y"], "of somebody")
    assert (spec.truncation, spec.max_prompt_tokens) == (pb.TRUNCATION_KEEP_END, 900)
    sampling = spec.sampling
    assert (sampling.temperature, sampling.seed, sampling.top_k) == (0.5, 7, 4)
    assert sampling.top_p == pytest.approx(0.9)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.25, -0.5)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.125, 1.5)
    assert dict(sampling.logit_bias) == {5: -100.0}


async def test_several_answers_with_their_logprobs(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say(Say("你", top={"你": -0.5, "他": -float("inf")}), Say("!", answer=1))
    answer = await client.chat.completions.create(
        model="fake", messages=HELLO, n=2, logprobs=True, top_logprobs=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [choice.message.content for choice in answer.choices] == ["你", "你!"]
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    first, second = logprobs.content
    assert (first.token, first.logprob, first.bytes) == ("你", -0.5, list("你".encode()))
    assert [(top.token, top.logprob) for top in first.top_logprobs] == [("你", -0.5), ("他", -9999)]
    assert second.token == "!"


async def test_several_answers_stream_side_by_side(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say("a", Say("b", answer=1))
    stream = await client.chat.completions.create(
        model="fake", messages=HELLO, n=2, stream=True, logprobs=True
    )
    said: dict[int, list[Any]] = {0: [], 1: []}
    async for chunk in stream:
        (choice,) = chunk.choices
        said[choice.index].append(choice.delta.content)
        if choice.delta.content:
            assert choice.logprobs is not None
            assert [token.token for token in choice.logprobs.content or []] == [
                choice.delta.content
            ]
    assert said == {0: ["", "a", None], 1: ["", "a", "b", None]}


async def test_thoughts_and_calls(miao_service: FakeService, client: openai.AsyncOpenAI) -> None:
    steps = (
        Say(reasoning="They ask "),
        Say(reasoning="for weather."),
        Say(call=ToolCallDelta(0, "call00001", "weather", "")),
        Say(call=ToolCallDelta(0, "", "", '{"city":')),
        Say(call=ToolCallDelta(0, "", "", ' "北京"}')),
    )
    miao_service.will_say(*steps)
    miao_service.will_say(*steps)
    ask: Any = {"model": "fake", "messages": HELLO, "tools": [WEATHER], "tool_choice": "auto"}
    answer = await client.chat.completions.create(**ask)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.model_extra == {"reasoning_content": "They ask for weather."}
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.id, call.function.name) == ("call00001", "weather")
    assert json.loads(call.function.arguments) == {"city": "北京"}

    async with client.chat.completions.stream(**ask) as stream:
        final = await stream.get_final_completion()  # the package puts the deltas together
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls is not None
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"city": "北京"}'

    miao_service.will_say("Sunny.")
    assistant: Any = choice.message.model_dump(exclude_none=True)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sun", "name": "weather"}
    await client.chat.completions.create(
        model="fake", messages=[*HELLO, assistant, result], tools=[WEATHER]
    )
    spec = miao_service.requests("Generate")[-1].spec
    _, thought, answered = spec.chat.messages
    assert thought.reasoning == "They ask for weather."
    assert thought.tool_calls[0].arguments_json == '{"city": "北京"}'
    assert (answered.role, answered.tool_call_id) == (pb.ROLE_TOOL, "call00001")
    assert json.loads(spec.tools[0].parameters_json_schema) == WEATHER["function"]["parameters"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)),
        ("required", pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED)),
        ({"type": "function", "function": {"name": "weather"}}, pb.ToolChoice(name="weather")),
    ],
)
async def test_the_choice_of_tools(
    miao_service: FakeService, client: openai.AsyncOpenAI, choice: Any, expected: pb.ToolChoice
) -> None:
    miao_service.will_say("a")
    await client.chat.completions.create(
        model="fake", messages=HELLO, tools=[WEATHER], tool_choice=choice
    )
    assert miao_service.requests("Generate")[0].spec.tool_choice == expected


class City(BaseModel):
    name: str
    people: int


async def test_a_model_of_pydantic_is_the_form_of_the_answer(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say('{"name": "北京", ', '"people": 22}')
    answer = await client.chat.completions.parse(model="fake", messages=HELLO, response_format=City)
    assert answer.choices[0].message.parsed == City(name="北京", people=22)
    schema = miao_service.requests("Generate")[0].spec.response_format.json_schema
    assert set(json.loads(schema)["properties"]) == {"name", "people"}


async def test_who_leaves_a_stream_cancels(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say("a", Wait(threading.Event()), "never")
    stream = await client.chat.completions.create(model="fake", messages=HELLO, stream=True)
    async for chunk in stream:
        if chunk.choices[0].delta.content == "a":
            break
    await stream.close()
    await asyncio.to_thread(miao_service.last_generation.wait)
    assert miao_service.last_generation.is_cancelled


async def test_who_leaves_before_the_answer_cancels(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say("a", Wait(threading.Event()), "never")
    call = asyncio.create_task(client.chat.completions.create(model="fake", messages=HELLO))
    await asyncio.to_thread(miao_service.wait_for_call, "Generate")
    call.cancel()
    await asyncio.to_thread(miao_service.wait_for_call, "CancelGeneration")
    await asyncio.to_thread(miao_service.last_generation.wait)
    assert miao_service.last_generation.is_cancelled


async def test_who_has_a_key_comes_back_to_the_same_generation(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    go = threading.Event()
    miao_service.will_say("a", Wait(go), "b")
    key = {"Idempotency-Key": "order-66"}

    def ask() -> Any:
        return client.chat.completions.create(
            model="fake", messages=HELLO, stream=True, extra_headers=key
        )

    stream = await ask()
    await anext(aiter(stream))
    await stream.close()
    go.set()
    again = [chunk async for chunk in await ask()]
    said = [chunk.choices[0].delta.content for chunk in again]
    assert said == ["", "a", "b", None]
    assert len(miao_service.generations) == 1
    assert not miao_service.last_generation.is_cancelled
    assert {request.request_id for request in miao_service.requests("Generate")} == {"order-66"}


async def test_a_failure_amid_a_stream_is_an_event(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.will_say("a", Fail("the engine ran out of memory"))
    stream = await client.chat.completions.create(model="fake", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="ran out of memory") as failed:
        [chunk async for chunk in stream]
    assert failed.value.code == "generation_failed"
