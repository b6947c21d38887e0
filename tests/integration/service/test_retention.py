"""For how long a generation that has ended is kept is a setting."""

from __future__ import annotations

from typing import Any

import grpc

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc


async def answer(front: Any, worker: Any) -> str:
    spec = pb.GenerationSpec(prompt="hello")
    call = aiter(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
    generation_id = (await anext(call)).event.accepted.generation_id
    await worker.answer("abc")
    assert [1 async for _ in call]
    return str(generation_id)


async def test_what_has_ended_is_kept_for_so_long_and_then_unknown(
    start_front: Any, worker: Any, database: Any, eventually: Any, refused: Any
) -> None:
    async with start_front(retention_seconds=2) as brief, start_front() as lasting:
        kept, gone = await answer(lasting, worker), await answer(brief, worker)
        asked = rpc.GetGenerationRequest(generation_id=gone, include_output=True)
        found = (await lasting.generations.GetGeneration(asked)).generation
        assert found.output.text == "abc"
        await eventually(lambda: not database.keys(f"miao:*{gone}"))
        for call in (
            lasting.generations.GetGeneration(asked),
            lasting.generations.FollowGeneration(rpc.FollowGenerationRequest(generation_id=gone)),
        ):
            assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND
        listed = (await brief.generations.ListGenerations(rpc.ListGenerationsRequest())).generations
        assert [generation.generation_id for generation in listed] == [kept]
