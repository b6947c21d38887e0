"""One front before several models, which come and go as it runs."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2 as models

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def ask(model: str, request_id: str = "") -> rpc.GenerateRequest:
    spec = pb.GenerationSpec(model=model, prompt="hi")
    return rpc.GenerateRequest(request_id=request_id, spec=spec)


async def number_of_workers(front: Any) -> dict[str, int]:
    listed = await front.models.ListModels(models.ListModelsRequest())
    return {model.name: model.num_workers for model in listed.models}


async def test_each_model_has_a_queue_that_its_replicas_share(
    front: Any, worker: Any, make_worker: Any, as_text: Any
) -> None:
    replicas = [make_worker("other", replica=number) for number in range(2)]
    for replica in replicas:
        replica.announce()
    assert await number_of_workers(front) == {"other": 2, "tiny": 1}
    names = ("other", "tiny", "other")
    calls = [aiter(front.generations.Generate(ask(name))) for name in names]
    for call in calls:
        await anext(call)  # accepted
    assert replicas[0].claim() is not None
    assert (await replicas[1].answer("!")).record.model == "other"
    assert replicas[0].claim() is None
    assert (await worker.answer("?")).record.model == "tiny"
    assert as_text([response async for response in calls[1]]) == "?"


async def test_no_name_with_several_models_is_refused_with_their_names(
    front: Any, make_worker: Any, refused: Any
) -> None:
    other = make_worker("other")
    other.announce()
    await number_of_workers(front)
    refusal = await refused(front.generations.Generate(ask("")))
    assert refusal.fields == ["spec.model"]
    assert "other, tiny" in refusal.message
    other.presence.withdraw()
    await number_of_workers(front)
    assert (await front.generations.Generate(ask("")).read()).event.accepted.model == "tiny"


async def test_a_model_that_goes_is_told_apart_from_one_that_never_was(
    front: Any, worker: Any, make_worker: Any, refused: Any
) -> None:
    other = make_worker("other")
    other.announce()
    await number_of_workers(front)
    waiting = aiter(front.generations.Generate(ask("other")))
    await anext(waiting)
    other.presence.withdraw()
    assert await number_of_workers(front) == {"other": 0, "tiny": 1}
    assert (await refused(front.generations.Generate(ask("other")))).reason == "NO_WORKER"
    assert (await refused(front.generations.Generate(ask("no")))).reason == "MODEL_NOT_FOUND"
    stub: Any = health_pb2_grpc.HealthStub(front.channel)
    watch = aiter(stub.Watch(health_pb2.HealthCheckRequest(service="other")))
    while (await anext(watch)).status != NOT_SERVING:
        pass
    other.announce()
    while (await anext(watch)).status != SERVING:
        pass
    await other.answer("back")  # what waited is answered when it is there again
    assert "back" in [r.event.tokens.text async for r in waiting]


async def test_a_model_that_stays_away_is_forgotten(
    start_front: Any, worker: Any, make_worker: Any, eventually: Any
) -> None:
    make_worker("other").announce(ttl_ms=1)
    async with start_front(forget_model_seconds=0.2) as front:
        assert "tiny" in await number_of_workers(front)
        await eventually(lambda: list(front.front.catalog.models) == ["tiny"])


async def test_a_prompt_is_never_queued_in_the_tokens_of_the_model_before(
    start_front: Any, make_worker: Any, refused: Any, eventually: Any
) -> None:
    make_worker("other", vocabulary_digest="v1").announce()
    async with start_front(refresh_seconds=1000.0) as front:
        successor = make_worker("other", vocabulary_digest="v2", max_model_length=99)
        successor.announce()
        refusal = await refused(front.generations.Generate(ask("other", "again")))
        assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "MODEL_CHANGED")
        assert (await front.generations.Generate(ask("other", "again")).read()).event.accepted
        claimed = await successor.next()
        assert claimed.record.vocabulary == "v2"
        assert claimed.record.accepted.max_tokens == 97  # of the new card's context
