"""Listing, models, tokenizing, health, reflection."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2 as models
from miao.v1 import understanding_service_pb2 as understanding
from miao_client import AsyncClient
from miao_queue.telemetry.probes import LIVENESS

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_pages_hold_all_generations_newest_first(front: Any, worker: Any) -> None:
    ids = []
    for index in range(7):
        request = rpc.CreateGenerationRequest(
            request_id=f"r{index}", spec=pb.GenerationSpec(prompt="hi")
        )
        response = await front.generations.CreateGeneration(request)
        ids.append(response.generation.generation_id)
    claimed = await worker.answer("a")
    seen, token = [], ""
    while True:
        page = await front.generations.ListGenerations(
            rpc.ListGenerationsRequest(page_size=3, page_token=token)
        )
        seen += [generation.generation_id for generation in page.generations]
        token = page.next_page_token
        if not token:
            break
        assert len(page.generations) == 3
    assert sorted(seen) == sorted(ids)
    finished = await front.generations.ListGenerations(
        rpc.ListGenerationsRequest(state=pb.GENERATION_STATE_FINISHED)
    )
    assert [g.generation_id for g in finished.generations] == [claimed.generation_id]
    none = await front.generations.ListGenerations(rpc.ListGenerationsRequest(model="other"))
    assert not none.generations


async def test_models_are_listed_with_who_serves_them(
    front: Any, worker: Any, make_worker: Any
) -> None:
    make_worker("idle").presence.publish()
    listed = (await front.models.ListModels(models.ListModelsRequest())).models
    assert [(model.name, model.num_workers) for model in listed] == [("idle", 0), ("tiny", 1)]
    model = (await front.models.GetModel(models.GetModelRequest(name="tiny"))).model
    assert model.has_chat_template
    assert (model.vocab_size, model.max_model_length) == (258, 4096)
    assert model.default_sampling.top_k == 50
    # The only one with a live worker is the one that an empty name means.
    assert (await front.models.GetModel(models.GetModelRequest())).model.name == "tiny"


async def test_an_unknown_model_is_not_found(front: Any, refused: Any) -> None:
    refusal = await refused(front.models.GetModel(models.GetModelRequest(name="nope")))
    assert refusal.code.name == "NOT_FOUND"


async def test_a_card_that_cannot_be_used_hides_its_model_alone(
    front: Any, make_worker: Any, caplog: Any
) -> None:
    make_worker("broken", tokenizer_json="{}").announce()
    listed = (await front.models.ListModels(models.ListModelsRequest())).models
    assert [model.name for model in listed] == ["tiny"]
    assert "broken" in caplog.text


async def test_a_new_card_replaces_the_old_one(front: Any, make_worker: Any) -> None:
    make_worker("tiny", max_model_length=99).announce()
    await front.models.ListModels(models.ListModelsRequest())
    response = await front.models.Tokenize(models.TokenizeRequest(prompt="a"))
    assert response.max_model_length == 99


async def test_tokens_are_those_that_generate_would_use(front: Any, worker: Any) -> None:
    chat = pb.Chat(messages=[pb.ChatMessage(role=pb.ROLE_USER, content="a<|im_end|>b")])
    tokens = await front.models.Tokenize(models.TokenizeRequest(chat=chat))
    assert list(tokens.token_ids).count(257) == 1  # the template's own, not the caller's
    assert "".join(tokens.tokens) == (
        "<|im_start|>userĊa<|im_end|>b<|im_end|>Ċ<|im_start|>assistantĊ"
    )
    call = front.generations.Generate(rpc.GenerateRequest(spec=pb.GenerationSpec(chat=chat)))
    accepted = (await call.read()).event.accepted
    assert accepted.num_prompt_tokens == len(tokens.token_ids)
    long = await front.models.Tokenize(models.TokenizeRequest(prompt="x" * 100_000))
    assert len(long.token_ids) == 100_000


async def test_health_knows_the_front_its_services_and_its_models(
    front: Any, worker: Any, make_worker: Any
) -> None:
    make_worker("idle").presence.publish()
    await front.models.ListModels(models.ListModelsRequest())
    stub: Any = health_pb2_grpc.HealthStub(front.channel)
    watch = aiter(stub.Watch(health_pb2.HealthCheckRequest(service="idle")))
    while (await anext(watch)).status != NOT_SERVING:
        pass
    expected = {"": SERVING, "tiny": SERVING, "idle": NOT_SERVING}
    expected |= {"miao.v1.GenerationService": SERVING, "miao.v1.ModelService": SERVING}
    expected |= {"miao.v1.UnderstandingService": SERVING, "miao.v1.ScoreService": SERVING}
    expected |= {"miao.v1.UsageService": SERVING, "miao.v1.FleetService": SERVING}
    for service, status in expected.items():
        response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert response.status == status, service
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await stub.Check(health_pb2.HealthCheckRequest(service="nope"))


async def test_health_follows_redis_and_is_watched(
    start_front: Any, worker: Any, redis_server: Any
) -> None:
    async with start_front(health_listen="0") as front:
        stub: Any = health_pb2_grpc.HealthStub(front.channel)
        probes = grpc.aio.insecure_channel(front.front.health_address)
        probed: Any = health_pb2_grpc.HealthStub(probes)
        watches = [aiter(stub.Watch(health_pb2.HealthCheckRequest())) for _ in range(2)]
        for watch in watches:
            assert (await anext(watch)).status == SERVING
        redis_server.kill()
        try:
            for watch in watches:
                assert (await anext(watch)).status == NOT_SERVING
            for service, status in (("", NOT_SERVING), (LIVENESS, SERVING)):
                request = health_pb2.HealthCheckRequest(service=service)
                assert (await probed.Check(request)).status == status
        finally:
            redis_server.start()
        for watch in watches:
            assert (await anext(watch)).status == SERVING
        await probes.close()


async def test_reflection_describes_the_contract(front: Any) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(front.channel)
    request = reflection_pb2.ServerReflectionRequest
    requests = [
        request(list_services=""),
        request(file_containing_symbol="miao.v1.GenerationService"),
    ]
    listed, described = [r async for r in stub.ServerReflectionInfo(iter(requests))]
    assert {service.name for service in listed.list_services_response.service} == {
        "miao.v1.GenerationService",
        "miao.v1.ModelService",
        "miao.v1.ScoreService",
        "miao.v1.UnderstandingService",
        "miao.v1.UsageService",
        "miao.v1.FleetService",
        "miao.v1.ExplainService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert described.file_descriptor_response.file_descriptor_proto


async def test_every_method_of_the_contract_is_answered(front: Any) -> None:
    for module in (rpc, models, understanding):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await front.channel.unary_unary(path)(b"\xff")
                assert caught.value.code().name == "INVALID_ARGUMENT", path


async def test_a_client_of_several_fronts_leaves_out_one_that_is_about_to_stop(
    start_front: Any, worker: Any, redis_url: str
) -> None:
    empty = redis_url.replace("/0", "/1")  # a front that knows no models, to tell the two apart
    async with start_front() as one, start_front(redis_url=empty) as other:
        ports = (one.port, other.port)
        async with AsyncClient("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)) as client:
            while len({len(await client.models()) for _ in range(4)}) < 2:
                pass
            one.front._health.close()
            while any([await client.models() for _ in range(6)]):  # the other answers alone
                pass
