"""Following: from any number, on any front, with any reader, and never a token twice."""

from __future__ import annotations

import asyncio
from typing import Any

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_queue import keys


async def create(front: Any, request_id: str = "") -> str:
    response = await front.generations.CreateGeneration(
        rpc.CreateGenerationRequest(
            request_id=request_id, spec=pb.GenerationSpec(prompt="hello", max_tokens=4000)
        )
    )
    assert response.generation.state == pb.GENERATION_STATE_QUEUED
    return str(response.generation.generation_id)


def follow(front: Any, generation_id: str, after: int = 0) -> Any:
    return front.generations.FollowGeneration(
        rpc.FollowGenerationRequest(generation_id=generation_id, after_sequence_number=after)
    )


async def test_a_finished_generation_is_followed_from_any_number(
    front: Any, worker: Any, as_text: Any
) -> None:
    generation_id = await create(front)
    await worker.answer("abc", "d", "ef")
    for after in range(7):
        responses = [response async for response in follow(front, generation_id, after)]
        assert as_text(responses) == "abcdef"[after:], after
        assert responses[-1].event.HasField("finished")
        assert responses[0].event.HasField("accepted") == (after == 0)
        numbers = [n for r in responses for n in r.event.tokens.token_ids]
        assert numbers == [ord(letter) for letter in "abcdef"[after:]]


async def test_another_front_follows_a_running_generation(
    front: Any, worker: Any, start_front: Any, as_text: Any
) -> None:
    async with start_front() as other:
        generation_id = await create(front)
        claimed = await worker.next()
        worker.say(claimed, "ab")
        early, late = aiter(follow(other, generation_id)), aiter(follow(other, generation_id, 1))
        assert (await anext(early)).event.accepted.generation_id == generation_id
        assert (await anext(early)).event.tokens.text == "ab"
        assert (await anext(late)).event.tokens.text == "b"
        worker.say(claimed, "c", "d")
        worker.finish(claimed)
        assert as_text([response async for response in early]) == "cd"
        assert as_text([response async for response in late]) == "cd"
        assert other.front.reader.num_followers == 0


async def test_a_caller_that_has_seen_more_than_the_journal_holds_waits_for_more(
    front: Any, worker: Any, as_text: Any
) -> None:
    generation_id = await create(front)
    claimed = await worker.next()
    worker.say(claimed, "ab")
    stream = aiter(follow(front, generation_id, 4))
    reading = asyncio.ensure_future(anext(stream))
    worker.say(claimed, "c", "de", "f")
    assert (await reading).event.tokens.text == "e"
    worker.finish(claimed)
    assert as_text([response async for response in stream]) == "f"


async def test_an_end_before_what_the_caller_has_seen_is_data_loss(
    front: Any, worker: Any, refused: Any
) -> None:
    generation_id = await create(front)
    claimed = await worker.next()
    worker.say(claimed, "ab")
    waiting = asyncio.create_task(refused(follow(front, generation_id, 4)))
    await asyncio.sleep(0.05)
    worker.finish(claimed)
    for refusal in (await waiting, await refused(follow(front, generation_id, 4))):
        assert (refusal.code.name, refusal.reason) == ("DATA_LOSS", "JOURNAL_LOST")


async def test_a_long_journal_is_read_whole(front: Any, worker: Any) -> None:
    generation_id = await create(front)
    claimed = await worker.next()
    early = aiter(follow(front, generation_id))
    for _ in range(1000):
        worker.say(claimed, "x")
    late = aiter(follow(front, generation_id))
    worker.finish(claimed)
    for stream in (early, late):
        numbers = [response.event.sequence_number async for response in stream]
        assert numbers == [*range(1001), 1000]


async def test_redis_killed_and_started_again_loses_no_token(
    start_front: Any, worker: Any, redis_server: Any, as_text: Any, eventually: Any
) -> None:
    async with start_front() as front:
        generation_id = await create(front)
        claimed = await worker.next()
        worker.say(claimed, "ab")
        stream = aiter(follow(front, generation_id))
        assert (await anext(stream)).event.HasField("accepted")
        assert (await anext(stream)).event.tokens.text == "ab"
        worker.redis.execute_command("BGREWRITEAOF")  # everything up to here is on disk
        await eventually(lambda: not worker.redis.info("persistence")["aof_rewrite_in_progress"])
        redis_server.kill()
        await asyncio.sleep(0.3)
        redis_server.start()
        worker.say(claimed, "cd")
        worker.finish(claimed)
        assert as_text([response async for response in stream]) == "cd"


async def test_new_calls_are_refused_while_redis_is_away(
    start_front: Any, worker: Any, redis_server: Any, refused: Any
) -> None:
    async with start_front() as front:
        redis_server.kill()
        spec = pb.GenerationSpec(prompt="hello")
        try:
            for call in (
                front.generations.Generate(rpc.GenerateRequest(spec=spec)),
                front.generations.GetGeneration(rpc.GetGenerationRequest(generation_id="x")),
            ):
                refusal = await refused(call)
                assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "QUEUE_UNAVAILABLE")
        finally:
            redis_server.start()
    assert not worker.redis.keys("miao:gen:*")


async def test_streams_end_clearly_when_redis_stays_away(
    start_front: Any, worker: Any, redis_server: Any, refused: Any
) -> None:
    async with start_front(follow_outage_seconds=0.3) as front:
        generation_id = await create(front)
        live = aiter(follow(front, generation_id))
        await anext(live)
        redis_server.kill()
        try:
            refusal = await refused(live)
        finally:
            redis_server.start()
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "QUEUE_UNAVAILABLE")


async def test_a_journal_that_redis_has_lost_ends_the_stream(
    front: Any, worker: Any, database: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("miao_service.journal_reader._QUIET_SECONDS", 0.05)
    monkeypatch.setattr("miao_service.journal_reader._BLOCK_MS", 50)
    monkeypatch.setattr("miao_service.journal_reader._RESTORE_SECONDS", 0.2)
    generation_id = await create(front)
    stream = aiter(follow(front, generation_id))
    await anext(stream)
    database.delete(keys.generation(generation_id), keys.journal(generation_id))
    refusal = await refused(stream)
    assert (refusal.code.name, refusal.reason) == ("DATA_LOSS", "JOURNAL_LOST")


async def test_a_stream_outlives_the_age_of_its_connection(
    start_front: Any, worker: Any, as_text: Any
) -> None:
    async with start_front(max_connection_age_seconds=0.2) as front:
        spec = pb.GenerationSpec(prompt="hello")
        stream = aiter(front.generations.Generate(rpc.GenerateRequest(spec=spec)))
        await anext(stream)
        await asyncio.sleep(0.7)
        await worker.answer("abc")
        assert as_text([response async for response in stream]) == "abc"
