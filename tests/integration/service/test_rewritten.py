"""Redis comes back with less, or with nothing: streams go on, or say that they cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_client import AsyncClient, DataLossError
from miao_queue import events, keys
from miao_service.errors import GenerationNotFoundError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals that are silent are looked at after a moment."""
    monkeypatch.setattr("miao_service.journal_reader._QUIET_SECONDS", 0.05)
    monkeypatch.setattr("miao_service.journal_reader._BLOCK_MS", 50)
    monkeypatch.setattr("miao_service.journal_reader._RESTORE_SECONDS", 0.2)


def request(request_id: str = "r", **changes: Any) -> rpc.GenerateRequest:
    spec = pb.GenerationSpec(**({"prompt": "hello", "max_tokens": 4000} | changes))
    return rpc.GenerateRequest(request_id=request_id, spec=spec)


async def begin(front: Any, worker: Any, *texts: str) -> Any:
    """A generation that has said so much; its stream and its claim."""
    stream = aiter(front.generations.Generate(request()))
    assert (await anext(stream)).event.HasField("accepted")
    claimed = await worker.next()
    worker.say(claimed, *texts)
    said = "".join([(await anext(stream)).event.tokens.text for _ in texts])
    assert said == "".join(texts)
    return stream, claimed


def follow(front: Any, generation_id: str, after: int, digest: int | None = None) -> Any:
    return front.generations.FollowGeneration(
        rpc.FollowGenerationRequest(
            generation_id=generation_id, after_sequence_number=after, output_digest=digest
        )
    )


def lose_tail(database: Any, claimed: Any, kept: int) -> None:
    """Leave only so many tokens in the journal, and cut all connections, as a restart may."""
    journal = keys.journal(claimed.generation_id)
    entries = database.xrange(journal, "-", f"{kept}-0")
    pipeline = database.pipeline()
    pipeline.delete(journal)
    for entry_id, fields in entries:
        pipeline.xadd(journal, fields, id=entry_id)
    pipeline.hset(keys.generation(claimed.generation_id), "tokens", kept)
    pipeline.client_kill_filter(_type="normal", skipme=True)
    pipeline.execute()
    claimed.tokens = kept


def forget(database: Any, generation_id: str) -> None:
    """Lose all of a generation, as a Redis does whose file ends before its acceptance."""
    database.delete(
        keys.generation(generation_id), keys.journal(generation_id), f"rq:job:{generation_id}"
    )


async def in_doubt(front: Any, eventually: Any, tokens: int) -> None:
    """Until the front has seen that the journal holds less."""
    (follower,) = front.front.reader._followers()
    await eventually(lambda: follower.position.tokens == tokens)


@pytest.mark.parametrize("cut", [1, 2])
async def test_a_rewritten_journal_may_be_cut_elsewhere(
    front: Any, worker: Any, database: Any, as_text: Any, eventually: Any, cut: int
) -> None:
    stream, claimed = await begin(front, worker, "a", "b", "cd")
    lose_tail(database, claimed, cut)
    await in_doubt(front, eventually, cut)
    worker.say(claimed, "abcdef"[cut:5], "f")
    worker.finish(claimed)
    assert as_text([response async for response in stream]) == "ef"


@pytest.mark.parametrize("again", [("xd", "e"), ("cx", "e"), ("xde",), ("c", "xe")])
async def test_a_journal_rewritten_with_other_tokens_ends_the_stream(
    front: Any, worker: Any, database: Any, refused: Any, eventually: Any, again: tuple[str, ...]
) -> None:
    stream, claimed = await begin(front, worker, "ab", "cd")
    lose_tail(database, claimed, 2)
    await in_doubt(front, eventually, 2)
    worker.say(claimed, *again)
    worker.finish(claimed)
    refusal = await refused(stream)
    assert (refusal.code.name, refusal.reason) == ("DATA_LOSS", "OUTPUT_CHANGED")
    assert "made again, and differently" in refusal.message


@pytest.mark.parametrize("after", range(1, 7))
async def test_following_with_the_digest_of_what_was_seen_goes_on(
    front: Any, worker: Any, as_text: Any, after: int
) -> None:
    stream, claimed = await begin(front, worker, "abc", "d", "ef")
    worker.finish(claimed)
    assert [1 async for _ in stream]
    digest = events.digest([*map(ord, "abcdef")][:after])
    rest = [response async for response in follow(front, claimed.generation_id, after, digest)]
    assert as_text(rest) == "abcdef"[after:]
    assert rest[-1].event.HasField("finished")


@pytest.mark.parametrize("after", range(1, 7))
async def test_following_with_the_digest_of_something_else_is_data_loss(
    front: Any, worker: Any, refused: Any, after: int
) -> None:
    stream, claimed = await begin(front, worker, "abc", "d", "ef")
    worker.finish(claimed)
    assert [1 async for _ in stream]
    digest = events.digest([*map(ord, "xbcdef")][:after])
    refusal = await refused(follow(front, claimed.generation_id, after, digest))
    assert (refusal.code.name, refusal.reason) == ("DATA_LOSS", "OUTPUT_CHANGED")


@pytest.mark.parametrize(("seen", "rest"), [("abcd", "e"), ("abcx", None)])
async def test_a_digest_ahead_of_the_journal_is_compared_when_it_gets_there(
    front: Any, worker: Any, refused: Any, as_text: Any, seen: str, rest: str | None
) -> None:
    _, claimed = await begin(front, worker, "ab")
    call = follow(front, claimed.generation_id, 4, events.digest([*map(ord, seen)]))
    worker.say(claimed, "c", "de")
    worker.finish(claimed)
    if rest is None:
        assert (await refused(call)).reason == "OUTPUT_CHANGED"
    else:
        assert as_text([response async for response in call]) == rest


@pytest.mark.parametrize("said", [(), ("ab", "c")])
async def test_a_generation_that_redis_forgot_is_made_again(
    front: Any, worker: Any, database: Any, as_text: Any, said: tuple[str, ...]
) -> None:
    stream, claimed = await begin(front, worker, *said)
    forget(database, claimed.generation_id)
    again = await worker.next()
    assert again.generation_id == claimed.generation_id
    assert again.state[b"job"] == claimed.state[b"job"]  # the seed too, which nobody had set
    assert again.record.deadline_ms <= claimed.record.deadline_ms + 1000
    worker.say(again, "a", "bcd", "e")
    worker.finish(again)
    rest = [response async for response in stream]
    assert as_text(rest) == "abcde"[len("".join(said)) :]
    assert rest[-1].event.HasField("finished")


async def test_one_made_again_with_other_tokens_ends_the_stream(
    front: Any, worker: Any, database: Any, refused: Any
) -> None:
    stream, claimed = await begin(front, worker, "abc")
    forget(database, claimed.generation_id)
    again = await worker.next()
    worker.say(again, "abx")
    assert (await refused(stream)).reason == "OUTPUT_CHANGED"


async def test_making_it_again_asks_for_no_room_and_no_worker(
    start_front: Any, worker: Any, database: Any, as_text: Any, refused: Any
) -> None:
    async with start_front(backlog_limit=1) as front:
        stream, claimed = await begin(front, worker, "a")
        await front.generations.CreateGeneration(
            rpc.CreateGenerationRequest(spec=pb.GenerationSpec(prompt="in the way"))
        )
        worker.presence.withdraw()
        forget(database, claimed.generation_id)
        first, second = await worker.next(), await worker.next()
        assert second.generation_id == claimed.generation_id
        worker.say(second, "ab")
        worker.finish(second)
        assert as_text([response async for response in stream]) == "b"
        worker.finish(first)


async def test_a_caller_that_leaves_while_it_is_made_again_cancels_it(
    front: Any, worker: Any, database: Any, eventually: Any
) -> None:
    call = front.generations.Generate(request())
    await call.read()
    claimed = await worker.next()
    forget(database, claimed.generation_id)
    await eventually(lambda: database.llen("rq:queue:tiny:normal") == 1)
    call.cancel()
    await eventually(lambda: database.llen("rq:queue:tiny:normal") == 0)


@pytest.mark.parametrize("said_again", ["abcd", "axcd"])
async def test_the_sdk_finds_another_front_and_a_redis_that_has_forgotten(
    start_front: Any, worker: Any, database: Any, said_again: str
) -> None:
    async with start_front() as dying, start_front() as other:
        targets = [f"127.0.0.1:{each.port}" for each in (dying, other)]
        async with AsyncClient(targets) as client, client.generate("hello") as stream:
            reading = aiter(stream)
            first = asyncio.ensure_future(anext(reading))
            claimed = await worker.next()
            worker.say(claimed, "ab")
            assert (await first).text == "ab"
            forget(database, claimed.generation_id)
            await dying.front._server.stop(None)  # cuts all its connections
            rest = asyncio.ensure_future(stream.result())
            again = await worker.next()
            assert again.generation_id == claimed.generation_id
            worker.say(again, said_again)
            worker.finish(again)
            if said_again.startswith("ab"):
                result = await rest
                assert (result.text, result.attempts) == ("abcd", 1)
            else:
                with pytest.raises(DataLossError) as caught:
                    await rest
                assert caught.value.result is not None
                assert caught.value.result.text == "ab"


async def test_the_sdk_that_only_follows_waits_until_its_worker_has_restored_it(
    start_front: Any, worker: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_found = asyncio.Event()

    class NoticedError(GenerationNotFoundError):
        def __init__(self, generation_id: str) -> None:
            super().__init__(generation_id)
            not_found.set()

    monkeypatch.setattr("miao_service.generation_service.GenerationNotFoundError", NoticedError)
    async with start_front() as dying, start_front() as other:
        targets = [f"127.0.0.1:{each.port}" for each in (dying, other)]
        async with AsyncClient(targets) as client:
            generation = await client.create("hello")
            claimed = await worker.next()
            worker.say(claimed, "ab")
            reading = aiter(client.follow(generation.generation_id))
            assert (await anext(reading)).text == "ab"
            written = [keys.generation(claimed.generation_id), keys.journal(claimed.generation_id)]
            remembered = [database.dump(key) for key in written]
            forget(database, claimed.generation_id)
            await dying.front._server.stop(None)  # cuts all its connections
            rest = asyncio.ensure_future(anext(reading))
            await not_found.wait()
            for key, value in zip(written, remembered, strict=True):
                database.restore(key, 0, value)
            worker.say(claimed, "cd")
            worker.finish(claimed)
            assert (await rest).text == "cd"
            assert [chunk async for chunk in reading] == []
