"""What the gateway refuses, and how it hands on what the service refuses."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from miao_client.testing import (
    FakeService,
    Refuse,
    busy,
    invalid,
    not_found,
    unauthenticated,
    unavailable,
)

from .conftest import serving

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


async def test_fields_are_refused_in_openais_shape(miao_service: FakeService, address: str) -> None:
    async with httpx2.AsyncClient() as http:
        wrong = await http.post(
            f"{address}/v1/chat/completions", json={"messages": HELLO, "n": "x"}
        )
        strange = await http.post(
            f"{address}/v1/chat/completions", json={"messages": HELLO, "b": 1}
        )
    assert (wrong.status_code, strange.status_code) == (400, 400)
    assert wrong.json() == {
        "error": {
            "message": "n must be an integer",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_value",
        }
    }
    assert strange.json()["error"]["code"] == "unsupported_parameter"
    assert miao_service.calls == []


async def test_a_lenient_gateway_says_what_it_leaves_out(miao_service: FakeService) -> None:
    miao_service.will_say("a")
    body = {"messages": HELLO, "store": True, "colour": "red"}
    async with serving(miao_service.target, lenient=True) as address, httpx2.AsyncClient() as http:
        answer = await http.post(f"{address}/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-miao-ignored"] == "store, colour"


async def test_null_is_as_good_as_nothing(miao_service: FakeService, address: str) -> None:
    miao_service.will_say("a")
    async with httpx2.AsyncClient() as http:
        body = {"messages": HELLO, "temperature": None, "functions": None, "store": False}
        answer = await http.post(f"{address}/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "a"
    assert "x-miao-ignored" not in answer.headers


async def test_a_body_that_is_no_json_is_refused(address: str) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.post(f"{address}/v1/chat/completions", content=b"{")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"


async def test_a_large_body_is_refused(miao_service: FakeService) -> None:
    gateway = serving(miao_service.target, most_body_bytes=1000)
    async with gateway as address, httpx2.AsyncClient() as http:
        answer = await http.post(f"{address}/v1/completions", content=b" " * 1001)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("PUT", "/v1/models")])
async def test_an_unknown_address_is_refused_in_the_same_shape(
    address: str, method: str, path: str
) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.request(method, address + path)
    assert answer.status_code in (404, 405)
    assert answer.json()["error"]["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("refusal", "kind", "code", "param"),
    [
        (invalid("spec.sampling.top_p", "must be at most 1"), openai.BadRequestError)
        + ("invalid_value", "top_p"),
        (invalid("spec.chat.messages[1].tool_calls[0].arguments_json", "must be an object"),)
        + (openai.BadRequestError, "invalid_value", "messages[1].tool_calls[0].function.arguments"),
        (invalid("spec.tools[0].parameters_json_schema", "is not a schema"), openai.BadRequestError)
        + ("invalid_value", "tools[0].function.parameters"),
        (invalid("request_id", "must be shorter"), openai.BadRequestError)
        + ("invalid_value", "Idempotency-Key"),
        (unauthenticated(), openai.AuthenticationError, "invalid_api_key", None),
        (not_found("no model"), openai.NotFoundError, "model_not_found", "model"),
        (busy(), openai.RateLimitError, "rate_limit_exceeded", None),
        (unavailable(), openai.InternalServerError, "unavailable", None),
    ],
)
async def test_refusals_of_the_service_are_those_of_the_package(
    miao_service: FakeService,
    client: openai.AsyncOpenAI,
    refusal: Refuse,
    kind: type[openai.APIStatusError],
    code: str,
    param: str | None,
) -> None:
    for stream in (False, True):
        miao_service.will_refuse(refusal)
        with pytest.raises(kind) as refused:
            await client.chat.completions.create(model="fake", messages=HELLO, stream=stream)
        assert (refused.value.code, refused.value.param) == (code, param)


async def test_a_busy_service_says_when_to_return_and_the_package_does(
    miao_service: FakeService, client: openai.AsyncOpenAI, address: str
) -> None:
    miao_service.will_refuse(busy(retry_after=0.02))
    miao_service.will_say("after all")
    again = client.with_options(max_retries=1)
    answer = await again.chat.completions.create(model="fake", messages=HELLO)
    assert answer.choices[0].message.content == "after all"

    told = set()
    async with httpx2.AsyncClient() as http:
        for _ in range(3):
            miao_service.will_refuse(busy(retry_after=4.0))
            busy_now = await http.post(f"{address}/v1/chat/completions", json={"messages": HELLO})
            assert busy_now.status_code == 429
            assert busy_now.headers["retry-after"] == "4"
            told.add(int(busy_now.headers["retry-after-ms"]))
    assert all(4000 <= milliseconds <= 5000 for milliseconds in told)
    assert len(told) > 1  # or all would come back together


async def test_a_key_used_for_another_request_is_a_conflict_that_is_not_tried_again(
    miao_service: FakeService, client: openai.AsyncOpenAI
) -> None:
    miao_service.always_says("a")
    keyed = client.with_options(default_headers={"Idempotency-Key": "k"}, max_retries=3)
    await keyed.chat.completions.create(model="fake", messages=HELLO)
    with pytest.raises(openai.ConflictError):
        await keyed.chat.completions.create(model="fake", messages=HELLO, max_tokens=5)
    assert len(miao_service.requests("Generate")) == 2


async def test_who_shows_no_key_is_nobody_even_where_the_gateway_has_one(
    miao_service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIAO_API_KEY", "the-gateways-own")
    async with serving(miao_service.target) as address, httpx2.AsyncClient() as http:
        assert (await http.get(f"{address}/v1/models")).status_code == 200
        refused = await http.get(f"{address}/v1/models", headers={"authorization": "Basic eDp5"})
    assert refused.status_code == 401
    (call,) = miao_service.calls
    assert "authorization" not in call.metadata
