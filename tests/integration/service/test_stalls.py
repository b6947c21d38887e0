"""A reader that stalls costs its front bounded memory, and stops nobody else."""

from __future__ import annotations

from typing import Any

import grpc
import psutil

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub


async def create(stub: Any) -> str:
    response = await stub.CreateGeneration(
        rpc.CreateGenerationRequest(spec=pb.GenerationSpec(prompt="hello", max_tokens=4000))
    )
    return str(response.generation.generation_id)


def follow(stub: Any, generation_id: str) -> Any:
    return stub.FollowGeneration(rpc.FollowGenerationRequest(generation_id=generation_id))


async def test_a_reader_that_stalls_costs_bounded_memory_and_stops_nobody(
    worker: Any, start_front: Any, eventually: Any, as_text: Any
) -> None:
    limit, event, count = 32 * 1024, 100_000, 300  # so much that the channel's own windows fill
    async with start_front(stream_buffer_bytes=limit) as front:
        stub = front.generations
        generation_id = await create(stub)
        claimed = await worker.next()
        stalled = aiter(follow(stub, generation_id))
        assert (await anext(stalled)).event.HasField("accepted")
        (follower,) = front.front.reader._followers()
        for _ in range(count):
            worker.append(claimed, pb.Tokens(text="x" * event, token_ids=[1]))
        # Others of the same journal, and of another, go on.
        swift = aiter(follow(stub, generation_id))
        assert len([await anext(swift) for _ in range(count + 1)]) == count + 1
        other = await create(stub)
        await worker.answer("abc")
        assert as_text([response async for response in follow(stub, other)]) == "abc"
        assert follower.position.tokens < count * 0.9
        assert follower.waiting_bytes <= limit + event + 1000
        worker.finish(claimed)
        numbers = [response.event.sequence_number async for response in stalled]
        assert numbers == [*range(1, count + 1), count]


async def test_many_readers_that_stall_do_not_fill_the_process(
    start_process: Any, worker: Any, as_text: Any
) -> None:
    event, count, readers = 100_000, 200, 10  # 200 MB for them all, were it read for them
    async with (
        start_process("--stream-buffer-bytes", str(64 * 1024)) as front,
        grpc.aio.insecure_channel(f"127.0.0.1:{front.port}") as channel,
    ):
        stub: Any = GenerationServiceStub(channel)
        generation_id = await create(stub)
        claimed = await worker.next()
        process = psutil.Process(front.process.pid)
        before = process.memory_info().rss
        stalled = [aiter(follow(stub, generation_id)) for _ in range(readers)]
        for stream in stalled:
            assert (await anext(stream)).event.HasField("accepted")
        for _ in range(count):
            worker.append(claimed, pb.Tokens(text="x" * event, token_ids=[1]))
        worker.finish(claimed)
        other = await create(stub)
        await worker.answer("abc")  # somebody else's goes on meanwhile
        assert as_text([response async for response in follow(stub, other)]) == "abc"
        assert process.memory_info().rss - before < 100_000_000
        for stream in stalled:
            numbers = [response.event.sequence_number async for response in stream]
            assert numbers == [*range(1, count + 1), count]
