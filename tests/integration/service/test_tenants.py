"""Tenants: each sees, follows, cancels and lists its own generations alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2 as models
from miao.v1 import score_service_pb2 as scores
from miao.v1 import understanding_service_pb2 as understanding
from miao_service.auth.authenticator import Authenticator, Credentials
from miao_service.auth.identity import ALL_SCOPES, SCOPE_OF, Identity, Scope
from miao_service.errors import BadCredentialsError


class Passwords:
    """Knows "tenant" and "tenant/scope" as the passwords of tenants."""

    async def verify(self, credentials: Credentials) -> Identity | None:
        if not credentials.bearer:
            return None
        tenant, _, scope = credentials.bearer.partition("/")
        if tenant == "mallory":
            raise BadCredentialsError
        return Identity(tenant, frozenset({Scope(scope)}) if scope else ALL_SCOPES, "test")


def by(tenant: str) -> dict[str, Any]:
    return {"metadata": (("authorization", f"Bearer {tenant}"),), "timeout": 10}


@pytest.fixture
async def front(start_front: Any, worker: Any) -> AsyncIterator[Any]:
    async with start_front(Authenticator([Passwords()])) as stubs:
        yield stubs


def generate(front: Any, tenant: str, request_id: str = "same") -> Any:
    request = rpc.GenerateRequest(request_id=request_id, spec=pb.GenerationSpec(prompt="hello"))
    return front.generations.Generate(request, **by(tenant))


async def listed(front: Any, tenant: str, **request: Any) -> Any:
    return await front.generations.ListGenerations(
        rpc.ListGenerationsRequest(**request), **by(tenant)
    )


async def test_the_same_request_id_of_two_tenants_is_two_generations(
    front: Any, worker: Any, as_text: Any
) -> None:
    ann, bob = generate(front, "ann"), generate(front, "bob")
    first, second = await worker.next(), await worker.next()
    assert {first.record.tenant, second.record.tenant} == {"ann", "bob"}
    for claimed in (first, second):
        worker.say(claimed, f"for {claimed.record.tenant}")
        worker.finish(claimed)
    assert as_text([response async for response in ann]) == "for ann"
    assert as_text([response async for response in bob]) == "for bob"


async def test_what_is_anothers_is_as_if_it_were_not(
    front: Any, worker: Any, refused: Any, database: Any, as_text: Any
) -> None:
    stream = aiter(generate(front, "ann"))
    generation_id = (await anext(stream)).event.accepted.generation_id
    stub = front.generations

    async def refusals(named: str) -> list[Any]:
        get = rpc.GetGenerationRequest(generation_id=named, include_output=True)
        follow = rpc.FollowGenerationRequest(generation_id=named)
        cancel = rpc.CancelGenerationRequest(generation_id=named)
        calls = [
            stub.GetGeneration(get, **by("bob")),
            stub.FollowGeneration(follow, **by("bob")),
            stub.CancelGeneration(cancel, **by("bob")),
        ]
        return [await refused(call) for call in calls]

    never_was = "a" * len(generation_id)
    there, not_there = await refusals(generation_id), await refusals(never_was)
    for one, other in zip(there, not_there, strict=True):
        assert one.code == grpc.StatusCode.NOT_FOUND
        assert one.message == other.message.replace(never_was, generation_id)
        assert (one.reason, len(one.status.details)) == (other.reason, len(other.status.details))
    assert database.hget(f"miao:gen:{generation_id}", "status") == b"queued"  # not cancelled
    mine = await stub.GetGeneration(
        rpc.GetGenerationRequest(generation_id=generation_id), **by("ann")
    )
    assert mine.generation.generation_id == generation_id
    await worker.answer("abc")
    assert as_text([response async for response in stream]) == "abc"


async def test_lists_hold_the_callers_own_and_pages_lead_nowhere_else(
    front: Any, worker: Any
) -> None:
    ids: dict[str, list[str]] = {"ann": [], "bob": []}
    for index in range(3):
        for tenant, mine in ids.items():
            request = rpc.CreateGenerationRequest(
                request_id=f"r{index}", spec=pb.GenerationSpec(prompt="hello")
            )
            created = await front.generations.CreateGeneration(request, **by(tenant))
            mine.append(created.generation.generation_id)
    page = await listed(front, "ann", page_size=1)
    own = {generation.generation_id for generation in (await listed(front, "ann")).generations}
    assert own == set(ids["ann"])
    # A page token of another's list is a place in one's own, if it is anything.
    stolen = await listed(front, "bob", page_token=page.next_page_token)
    assert {entry.generation_id for entry in stolen.generations} <= set(ids["bob"])
    assert not (await listed(front, "carl")).generations


@pytest.mark.parametrize(
    ("path", "request_message"),
    [
        ("GenerationService/Generate", rpc.GenerateRequest()),
        ("GenerationService/CreateGeneration", rpc.CreateGenerationRequest()),
        ("GenerationService/FollowGeneration", rpc.FollowGenerationRequest()),
        ("GenerationService/GetGeneration", rpc.GetGenerationRequest()),
        ("GenerationService/ListGenerations", rpc.ListGenerationsRequest()),
        ("GenerationService/CancelGeneration", rpc.CancelGenerationRequest()),
        ("ScoreService/Score", scores.ScoreRequest()),
        ("UnderstandingService/Embed", understanding.EmbedRequest()),
        ("UnderstandingService/Classify", understanding.ClassifyRequest()),
        ("UnderstandingService/Rerank", understanding.RerankRequest()),
        ("ModelService/ListModels", models.ListModelsRequest()),
        ("ModelService/GetModel", models.GetModelRequest()),
        ("ModelService/Tokenize", models.TokenizeRequest()),
    ],
)
async def test_every_method_asks_who_calls_and_what_for_before_it_looks_at_the_request(
    front: Any, refused: Any, path: str, request_message: Any
) -> None:
    method = front.channel.unary_stream(f"/miao.v1.{path}")
    payload = request_message.SerializeToString()
    nobody = await refused(method(payload, timeout=10))
    assert (nobody.code.name, nobody.reason) == ("UNAUTHENTICATED", "NO_CREDENTIALS")
    unknown = await refused(method(payload, **by("mallory")))
    assert (unknown.code.name, unknown.reason) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")
    needed = SCOPE_OF[path.rpartition("/")[2]]
    other = next(scope for scope in Scope if scope != needed)
    barred = await refused(method(payload, **by(f"ann/{other}")))
    assert (barred.code.name, barred.reason) == ("PERMISSION_DENIED", "MISSING_SCOPE")
    assert f"lack the scope '{needed}', which" in barred.message
    assert barred.detail(error_details_pb2.ErrorInfo).metadata["scope"] == needed


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer   ", "ann"])
async def test_an_authorization_of_another_kind_is_refused(
    front: Any, refused: Any, value: str
) -> None:
    call = front.models.ListModels(
        models.ListModelsRequest(), metadata=(("authorization", value),), timeout=10
    )
    assert (await refused(call)).reason == "BAD_CREDENTIALS"


async def test_health_is_open_and_reflection_is_not(front: Any, refused: Any) -> None:
    check = front.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    assert (await check(b"", timeout=10)).status == health_pb2.HealthCheckResponse.SERVING
    reflect = front.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = [reflection_pb2.ServerReflectionRequest(list_services="")]
    assert (await refused(reflect(iter(question), timeout=10))).reason == "NO_CREDENTIALS"
    answers = [answer async for answer in reflect(iter(question), **by("ann/read"))]
    assert len(answers) == 1
    assert len(answers[0].list_services_response.service) >= 6
