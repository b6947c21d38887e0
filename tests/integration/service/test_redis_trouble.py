"""A Redis that is full, read-only, slow or frozen: new requests are refused, streams go on or end.

Refused means: soon, with a reason and a time to come back, and with nothing written.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from google.rpc import error_details_pb2
from tests.conftest import RedisServer

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc


def request(request_id: str = "") -> rpc.GenerateRequest:
    return rpc.GenerateRequest(request_id=request_id, spec=pb.GenerationSpec(prompt="hello"))


@contextmanager
def full(server: RedisServer, database: Any) -> Iterator[None]:
    database.config_set("maxmemory", 1)
    try:
        yield
    finally:
        database.config_set("maxmemory", 0)


@contextmanager
def read_only(server: RedisServer, database: Any) -> Iterator[None]:
    database.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        database.replicaof("NO", "ONE")


@contextmanager
def without_replicas(server: RedisServer, database: Any) -> Iterator[None]:
    database.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        database.config_set("min-replicas-to-write", 0)


@contextmanager
def paused(server: RedisServer, database: Any, milliseconds: int = 4000) -> Iterator[None]:
    database.client_pause(milliseconds, all=True)  # nobody can end it before its time
    try:
        yield
    finally:
        database.ping()


@contextmanager
def briefly_paused(server: RedisServer, database: Any) -> Iterator[None]:
    with paused(server, database, milliseconds=1500):
        yield


@contextmanager
def frozen(server: RedisServer, database: Any) -> Iterator[None]:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


Trouble = Callable[[RedisServer, Any], AbstractContextManager[None]]
REFUSALS: list[tuple[Trouble, str, str]] = [
    (full, "RESOURCE_EXHAUSTED", "QUEUE_FULL"),
    (read_only, "UNAVAILABLE", "QUEUE_UNAVAILABLE"),
    (without_replicas, "UNAVAILABLE", "QUEUE_UNAVAILABLE"),
    (paused, "UNAVAILABLE", "QUEUE_UNAVAILABLE"),
    (frozen, "UNAVAILABLE", "QUEUE_UNAVAILABLE"),
]


@pytest.mark.parametrize(("trouble", "code", "reason"), REFUSALS)
async def test_new_requests_are_refused_soon_and_nothing_is_written(
    start_front: Any,
    worker: Any,
    database: Any,
    redis_server: Any,
    refused: Any,
    as_text: Any,
    trouble: Trouble,
    code: str,
    reason: str,
) -> None:
    async with start_front(redis_timeout_seconds=0.5) as front:
        unknown = rpc.GetGenerationRequest(generation_id="unknown")
        await refused(front.generations.GetGeneration(unknown))  # it has a connection now
        with trouble(redis_server, database):
            for submit in (front.generations.Generate, front.generations.CreateGeneration):
                began = time.monotonic()
                refusal = await refused(submit(request()))
                assert time.monotonic() - began < 5
                assert (refusal.code.name, refusal.reason) == (code, reason)
                assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        assert not database.keys("miao:gen:*")
        assert not database.keys("rq:*")
        call = front.generations.Generate(request())  # and as soon as it is over:
        await worker.answer("abc")
        assert as_text([response async for response in call]) == "abc"


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000])
async def test_a_clock_that_was_set_refuses_nothing(
    front: Any, worker: Any, as_text: Any, jump_ms: float
) -> None:
    for name in ("before", "after"):
        call = front.generations.Generate(request(name))
        await worker.answer("abc")
        assert as_text([response async for response in call]) == "abc"
        front.front.places.all[0].store._clock._offset_ms += jump_ms


@pytest.fixture
def short_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of journals waits for so long, and for the Redis timeout besides."""
    monkeypatch.setattr("miao_service.journal_reader._BLOCK_MS", 300)


@pytest.mark.usefixtures("short_reads")
@pytest.mark.parametrize("trouble", [read_only, without_replicas, briefly_paused, frozen])
async def test_running_streams_go_on_after_it(
    start_front: Any,
    worker: Any,
    database: Any,
    redis_server: Any,
    as_text: Any,
    trouble: Trouble,
) -> None:
    async with start_front(redis_timeout_seconds=0.5) as front:
        live = aiter(front.generations.Generate(request("live")))
        await anext(live)
        waiting = aiter(front.generations.Generate(request("waiting")))
        await anext(waiting)
        claimed = await worker.next()
        worker.say(claimed, "ab")
        assert (await anext(live)).event.tokens.text == "ab"
        with trouble(redis_server, database):
            await asyncio.sleep(1.2)  # longer than the reader waits for an answer
        worker.say(claimed, "cd")
        worker.finish(claimed)
        await worker.answer("xyz")
        assert as_text([response async for response in live]) == "cd"
        assert as_text([response async for response in waiting]) == "xyz"


async def test_a_full_redis_stops_no_accepted_work(
    front: Any, worker: Any, database: Any, redis_server: Any, as_text: Any
) -> None:
    stream = aiter(front.generations.Generate(request("stream")))
    await anext(stream)
    waiting = aiter(front.generations.Generate(request("waiting")))
    await anext(waiting)
    with full(redis_server, database):
        claimed = await worker.next()
        worker.say(claimed, "ab", "cd")
        cancel = rpc.CancelGenerationRequest(generation_id=(await worker.next()).generation_id)
        await front.generations.CancelGeneration(cancel)
        late = front.generations.FollowGeneration(
            rpc.FollowGenerationRequest(generation_id=claimed.generation_id)
        )
        worker.finish(claimed)
        assert as_text([response async for response in stream]) == "abcd"
        assert as_text([response async for response in late]) == "abcd"


@pytest.fixture
def only_when_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read of journals that nobody wakes goes on for longer than the tests here."""
    monkeypatch.setattr("miao_service.journal_reader._BLOCK_MS", 60_000)


@pytest.mark.usefixtures("only_when_woken")
async def test_the_same_request_attaches_on_a_full_redis(
    start_front: Any, worker: Any, database: Any, redis_server: Any, refused: Any, as_text: Any
) -> None:
    async with asyncio.timeout(10), start_front() as front, start_front() as other:
        stream = aiter(front.generations.Generate(request("r")))
        accepted = (await anext(stream)).event.accepted
        claimed = await worker.next()
        worker.say(claimed, "ab")
        with full(redis_server, database):
            again = aiter(other.generations.Generate(request("r")))
            assert (await anext(again)).event.accepted == accepted
            assert (await anext(again)).event.tokens.text == "ab"
            created = await other.generations.CreateGeneration(
                rpc.CreateGenerationRequest(request_id="r", spec=request().spec)
            )
            assert created.generation.generation_id == accepted.generation_id
            different = rpc.GenerateRequest(request_id="r", spec=pb.GenerationSpec(prompt="other"))
            assert (await refused(other.generations.Generate(different))).code.name == (
                "ALREADY_EXISTS"
            )
            worker.say(claimed, "cd")
            worker.finish(claimed)
            assert as_text([response async for response in stream]) == "abcd"
            assert as_text([response async for response in again]) == "cd"


@pytest.mark.usefixtures("only_when_woken")
async def test_following_on_a_full_redis_is_live_at_once(
    start_front: Any,
    worker: Any,
    database: Any,
    redis_server: Any,
    as_text: Any,
    eventually: Any,
) -> None:
    async with asyncio.timeout(10), start_front() as front, start_front() as other:
        stream = aiter(front.generations.Generate(request("r")))
        generation_id = (await anext(stream)).event.accepted.generation_id
        claimed = await worker.next()
        earlier = other.generations.Generate(request("earlier"))
        await worker.answer("x")
        assert as_text([response async for response in earlier]) == "x"  # now its reader sleeps
        worker.say(claimed, "ab")
        with full(redis_server, database):
            following = rpc.FollowGenerationRequest(generation_id=generation_id)
            late = aiter(other.generations.FollowGeneration(following))
            assert as_text([await anext(late), await anext(late)]) == "ab"
            (follower,) = other.front.reader._followers()
            await eventually(lambda: follower.is_live)
            worker.say(claimed, "cd")
            worker.finish(claimed)
            assert as_text([response async for response in late]) == "cd"


@pytest.mark.usefixtures("short_reads")
@pytest.mark.parametrize("trouble", [paused, frozen])
async def test_streams_end_clearly_when_it_lasts(
    start_front: Any,
    worker: Any,
    database: Any,
    redis_server: Any,
    refused: Any,
    trouble: Trouble,
) -> None:
    settings = {"redis_timeout_seconds": 0.5, "follow_outage_seconds": 1.0}
    async with start_front(**settings) as front:
        live = aiter(front.generations.Generate(request()))
        await anext(live)
        began = time.monotonic()
        with trouble(redis_server, database):
            refusal = await refused(live)
            assert time.monotonic() - began < 10
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "QUEUE_UNAVAILABLE")
