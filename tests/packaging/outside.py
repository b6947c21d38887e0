"""A program as a user of the SDK writes it; type checkers read it in their strictest mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from miao_client import (
    AccessToken,
    AsyncClient,
    AsyncTokenProvider,
    BusyError,
    Choices,
    Client,
    FinishReason,
    JsonSchema,
    Message,
    MiaoError,
    TokenProvider,
    tool,
)
from miao_client.testing import Cut, FakeService, busy


@dataclass
class City:
    name: str
    people: int


@tool
def weather(city: str, days: int = 1) -> str:
    """Say what the weather will be."""
    return f"{city}: sun for {days} days"


class Later(grpc.aio.UnaryUnaryClientInterceptor):
    """Interceptors are gRPC's own."""

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)


def renewed() -> Client:
    return Client(api_key=TokenProvider(lambda: "token", refresh_before=5), retry_budget=10)


def talk(client: Client) -> str:
    text: str = ""
    with client.generate([Message("user", "Hi")], temperature=0.5, tools=[weather]) as stream:
        for chunk in stream:
            text += chunk.text
    result = stream.result()
    if result.finish_reason is FinishReason.LENGTH and result.usage is not None:
        text += f" ({result.usage.output_tokens} tokens)"
    city: City = client.generate("Where?", response_format=City).result().parse(City)
    kind: str = client.generate("Well?", response_format=Choices("good", "bad")).text
    number: str = client.generate("How many?", response_format=JsonSchema({"type": "integer"})).text
    vectors: list[list[float]] = client.embed(["a", "b"]).vectors
    names: list[str] = [model.name for model in client.models()]
    return f"{text} {city.name} {kind} {number} {len(vectors)} {names}"


async def talk_too() -> float | None:
    async def fetch() -> AccessToken:
        return AccessToken("token", lifetime=60)

    provider = AsyncTokenProvider(fetch)
    async with AsyncClient("dns:///miao:50051", api_key=provider, interceptors=[Later()]) as client:
        other = client.with_options(timeout=9.0)
        try:
            async for chunk in other.generate("Hi", max_tokens=8):
                print(chunk.text, chunk.token_ids)
        except BusyError as error:
            return error.retry_after
        except MiaoError as error:
            print(error.message, error.code)
        return (await client.score("blue", prompt="The sky is")).log_likelihood


def check() -> None:
    with FakeService() as service, service.client() as client:
        service.will_say("Hello", Cut(), " world")
        service.will_refuse(busy(retry_after=2))
        assert client.generate("Hi").text == "Hello world"
