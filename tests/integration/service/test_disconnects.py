"""What becomes of a generation when its caller goes away."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_queue import keys
from miao_service.handlers import Call


def generate(front: Any, request_id: str = "", timeout: float | None = None, **spec: Any) -> Any:
    request = rpc.GenerateRequest(
        request_id=request_id, spec=pb.GenerationSpec(prompt="hello", **spec)
    )
    return front.generations.Generate(request, timeout=timeout)


async def get(front: Any, generation_id: str, output: bool = False) -> pb.Generation:
    response = await front.generations.GetGeneration(
        rpc.GetGenerationRequest(generation_id=generation_id, include_output=output)
    )
    return response.generation  # type: ignore[no-any-return]


@pytest.mark.parametrize("choice", [pb.ON_DISCONNECT_UNSPECIFIED, pb.ON_DISCONNECT_CANCEL])
async def test_a_waiting_generation_is_cancelled(
    front: Any, database: Any, eventually: Any, choice: int
) -> None:
    call = generate(front, on_disconnect=choice)
    generation_id = (await call.read()).event.accepted.generation_id
    call.cancel()
    await eventually(lambda: database.llen("rq:queue:tiny:normal") == 0)
    generation = await get(front, generation_id)
    assert generation.finished.reason == pb.FINISH_REASON_CANCELLED


async def test_one_whose_caller_leaves_in_the_moment_of_its_answer_is_cancelled(
    front: Any, database: Any, eventually: Any, monkeypatch: Any, caplog: Any
) -> None:
    class LeftCall(Call):
        def __init__(self, context: Any, identity: Any) -> None:
            super().__init__(context, identity)
            self.send = self._fail

        async def _fail(self, payload: bytes) -> None:
            assert database.llen("rq:queue:tiny:normal") == 1
            raise grpc.aio.InternalError("Failed grpc_call_start_batch")

    monkeypatch.setattr("miao_service.handlers.Call", LeftCall)
    with pytest.raises(grpc.aio.AioRpcError, match="the caller has left"):
        await generate(front).read()
    await eventually(lambda: database.llen("rq:queue:tiny:normal") == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_worker_of_a_running_generation_is_told(
    front: Any, worker: Any, database: Any, eventually: Any
) -> None:
    call = generate(front)
    await call.read()
    claimed = await worker.next()
    call.cancel()
    await eventually(lambda: database.xlen(keys.control(worker.name)) == 1)
    assert worker.append(claimed, pb.Tokens(text="a", token_ids=[1])) == 1  # asks to cancel
    worker.finish(claimed, pb.FINISH_REASON_CANCELLED)


async def test_one_that_shall_continue_does(front: Any, worker: Any, eventually: Any) -> None:
    call = generate(front, on_disconnect=pb.ON_DISCONNECT_CONTINUE)
    generation_id = (await call.read()).event.accepted.generation_id
    call.cancel()
    await eventually(lambda: front.front.reader.num_followers == 0)
    await worker.answer("abc")
    generation = await get(front, generation_id, output=True)
    assert generation.state == pb.GENERATION_STATE_FINISHED
    assert (generation.output.text, generation.sequence_number) == ("abc", 3)


async def test_one_that_somebody_else_follows_goes_on(
    front: Any, worker: Any, eventually: Any
) -> None:
    first, second = generate(front, "same"), generate(front, "same")
    await first.read()
    await second.read()
    first.cancel()
    await eventually(lambda: front.front.reader.num_followers == 1)
    await worker.answer("abc")
    assert (await second.read()).event.tokens.text == "abc"


async def test_a_follower_that_leaves_cancels_nothing(
    front: Any, worker: Any, eventually: Any
) -> None:
    created = await front.generations.CreateGeneration(
        rpc.CreateGenerationRequest(spec=pb.GenerationSpec(prompt="hello"))
    )
    generation_id = created.generation.generation_id
    call = front.generations.FollowGeneration(
        rpc.FollowGenerationRequest(generation_id=generation_id)
    )
    await call.read()
    call.cancel()
    await eventually(lambda: front.front.reader.num_followers == 0)
    assert (await get(front, generation_id)).state == pb.GENERATION_STATE_QUEUED


async def test_a_call_whose_deadline_passes_leaves_the_end_to_the_deadline(
    front: Any, refused: Any, worker: Any, eventually: Any
) -> None:
    call = generate(front, timeout=0.3)
    generation_id = (await call.read()).event.accepted.generation_id
    claimed = await worker.next()
    assert claimed.record.deadline_ms - claimed.record.accept_ms <= 300
    await eventually(lambda: front.front.reader.num_followers == 0)
    await asyncio.sleep(0.05)
    assert worker.append(claimed, pb.Tokens(text="a", token_ids=[1])) == 0  # no cancel asked for
    assert generation_id == claimed.generation_id


async def test_cancel_by_call(front: Any, worker: Any) -> None:
    call = generate(front)
    generation_id = (await call.read()).event.accepted.generation_id
    request = rpc.CancelGenerationRequest(generation_id=generation_id)
    for _ in range(2):  # one that has ended stays as it is
        response = await front.generations.CancelGeneration(request)
        assert response.generation.finished.reason == pb.FINISH_REASON_CANCELLED
    event = (await call.read()).event
    assert event.finished.reason == pb.FINISH_REASON_CANCELLED
    assert worker.claim() is None


async def test_cancel_by_call_while_running(front: Any, worker: Any) -> None:
    call = generate(front)
    generation_id = (await call.read()).event.accepted.generation_id
    claimed = await worker.next()
    request = rpc.CancelGenerationRequest(generation_id=generation_id)
    response = await front.generations.CancelGeneration(request)
    assert response.generation.state == pb.GENERATION_STATE_RUNNING
    worker.finish(claimed, pb.FINISH_REASON_CANCELLED)
    assert (await call.read()).event.finished.reason == pb.FINISH_REASON_CANCELLED
