"""A generation that Redis forgot, and its worker has not written again yet, is not unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from miao.v1 import generation_service_pb2 as rpc
from miao.v1.generation_pb2 import GenerationSpec
from miao_queue import keys

RESTORE = "miao_service.journal_reader._RESTORE_SECONDS"


async def forget(
    front: Any, database: Any, generation_id: str, eventually: Any
) -> Callable[[], None]:
    """Let Redis come back without a generation; the result writes it again, as its worker would."""
    written = [keys.generation(generation_id), keys.journal(generation_id)]
    remembered = [database.dump(key) for key in written]
    database.delete(*written)
    database.client_kill_filter(_type="normal", skipme=True)
    await eventually(lambda: front.front.reader.may_restore)

    def restore() -> None:
        for key, value in zip(written, remembered, strict=True):
            database.restore(key, 0, value)

    return restore


async def begin(front: Any, worker: Any) -> Any:
    """A running generation that has said "ab"; its claim."""
    spec = GenerationSpec(prompt="hello")
    await front.generations.CreateGeneration(rpc.CreateGenerationRequest(spec=spec))
    claimed = await worker.next()
    worker.say(claimed, "ab")
    return claimed


async def test_whoever_asks_meanwhile_gets_it_once_it_is_restored(
    front: Any, worker: Any, database: Any, eventually: Any, as_text: Any
) -> None:
    claimed = await begin(front, worker)
    name = {"generation_id": claimed.generation_id}
    restore = await forget(front, database, claimed.generation_id, eventually)
    stub = front.generations
    following = aiter(stub.FollowGeneration(rpc.FollowGenerationRequest(**name)))
    first = asyncio.ensure_future(anext(following))
    got = asyncio.ensure_future(stub.GetGeneration(rpc.GetGenerationRequest(**name)))
    cancelled = asyncio.ensure_future(stub.CancelGeneration(rpc.CancelGenerationRequest(**name)))
    done, _ = await asyncio.wait([first, got, cancelled], timeout=0.3)
    assert not done
    restore()
    assert (await first).event.accepted.generation_id == claimed.generation_id
    assert (await got).generation.sequence_number == 2
    await cancelled
    assert database.xlen(keys.control(worker.name)) == 1
    worker.finish(claimed)
    assert as_text([response async for response in following]) == "ab"


async def test_one_that_nobody_restores_is_not_found_after_a_while(
    front: Any, worker: Any, database: Any, eventually: Any, refused: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(RESTORE, 0.3)
    claimed = await begin(front, worker)
    await forget(front, database, claimed.generation_id, eventually)
    asked = rpc.GetGenerationRequest(generation_id=claimed.generation_id)
    refusal = await refused(front.generations.GetGeneration(asked))
    assert refusal.reason == "GENERATION_NOT_FOUND"


async def test_while_redis_is_well_an_unknown_one_is_not_found_at_once(
    front: Any, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RESTORE, 60.0)
    spec = GenerationSpec(prompt="hello")
    await front.generations.CreateGeneration(rpc.CreateGenerationRequest(spec=spec))
    async with asyncio.timeout(2):
        asked = rpc.GetGenerationRequest(generation_id="unknown")
        assert (await refused(front.generations.GetGeneration(asked))).code.name == "NOT_FOUND"
