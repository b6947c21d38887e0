"""An acceptance is answered when it is where it must be, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2
from redis import Redis
from tests.conftest import RedisServer

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc


def request(request_id: str = "r") -> rpc.GenerateRequest:
    return rpc.GenerateRequest(request_id=request_id, spec=pb.GenerationSpec(prompt="hello"))


@pytest.fixture
def can_say(database: Any) -> None:
    """A server that can say when its file is on disk: Redis from 7.2 on, and Valkey."""
    if not any(name.lower() == "waitaof" for name in database.command()):
        pytest.skip("this Redis has no WAITAOF")


@pytest.fixture
def replica(tmp_path: Path, redis_server: Any, database: Any) -> Iterator[RedisServer]:
    """A server that becomes a replica with `follow`."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def follow(replica: RedisServer, redis_server: RedisServer) -> None:
    with Redis.from_url(redis_server.url) as client:
        client.config_set("repl-diskless-sync-delay", 0)  # by default it waits 5 s for others
    with Redis.from_url(replica.url) as client:
        client.replicaof("127.0.0.1", redis_server.port)


@pytest.mark.usefixtures("can_say")
async def test_an_acceptance_that_is_on_disk_survives_a_crash(
    start_front: Any, worker: Any, redis_server: Any, as_text: Any
) -> None:
    worker.redis.config_set("appendfsync", "everysec")
    async with start_front(durability="fsync") as front:
        stream = aiter(front.generations.Generate(request()))
        accepted = (await anext(stream)).event.accepted
        redis_server.kill()
        redis_server.start()
        claimed = await worker.answer("abc")
        assert claimed.generation_id == accepted.generation_id
        assert as_text([response async for response in stream]) == "abc"


@pytest.mark.usefixtures("can_say")
@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
async def test_many_at_once_are_on_disk_together(
    start_front: Any, worker: Any, database: Any, appendfsync: str
) -> None:
    database.config_set("appendfsync", appendfsync)
    try:
        async with start_front(durability="fsync") as front:
            calls = [front.generations.Generate(request(f"r{n}")) for n in range(100)]
            for call in calls:
                assert (await call.read()).event.HasField("accepted")
                call.cancel()
    finally:
        database.config_set("appendfsync", "everysec")


async def test_a_redis_that_keeps_no_file_is_said(
    start_front: Any, worker: Any, database: Any, refused: Any
) -> None:
    database.config_set("appendonly", "no")
    try:
        async with start_front(durability="fsync") as front:
            refusal = await refused(front.generations.Generate(request()))
    finally:
        database.config_set("appendonly", "yes")
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "NOT_DURABLE")
    assert "cannot say that it is on disk" in refusal.message


async def test_without_a_replica_it_is_stored_and_attached_to_once_there_is_one(
    start_front: Any,
    worker: Any,
    redis_server: Any,
    replica: RedisServer,
    refused: Any,
    as_text: Any,
) -> None:
    settings: dict[str, Any] = {"durability": "replica", "redis_timeout_seconds": 1.0}
    async with start_front(**settings) as front:
        refusal = await refused(front.generations.Generate(request()))
        assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "NOT_DURABLE")
        assert "'r'" in refusal.message
        assert refusal.detail(error_details_pb2.RetryInfo).retry_delay.seconds > 0
        claimed = await worker.next()  # nothing was cancelled
    follow(replica, redis_server)
    async with start_front(durability="replica", redis_timeout_seconds=20.0) as front:
        stream = aiter(front.generations.Generate(request()))
        assert (await anext(stream)).event.accepted.generation_id == claimed.generation_id
        worker.say(claimed, "abc")
        worker.finish(claimed)
        assert as_text([response async for response in stream]) == "abc"
        with Redis.from_url(replica.url) as client:
            assert client.hget(f"miao:gen:{claimed.generation_id}", "request_id") == b"r"


@pytest.mark.usefixtures("can_say")
async def test_a_refusal_waits_for_nothing(
    start_front: Any, worker: Any, refused: Any, database: Any
) -> None:
    async with start_front(durability="fsync", backlog_limit=1) as front:
        first = front.generations.Generate(request("first"))
        await first.read()
        refusal = await refused(front.generations.Generate(request("second")))
        assert refusal.reason == "BACKLOG_FULL"
        assert len(database.keys("miao:gen:*")) == 1
        first.cancel()
