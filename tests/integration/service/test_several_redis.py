"""A front and several Redis: where generations lie, what comes and goes, and what is down."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from miao.v1 import fleet_service_pb2 as fleet_rpc
from miao.v1 import (
    fleet_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2 as model_rpc
from miao.v1 import usage_service_pb2 as usage_rpc
from miao.v1.generation_pb2 import GenerationSpec
from miao_client import AsyncClient
from miao_queue import keys, records
from miao_queue.addresses import ShardMap
from miao_queue.key_ring import new_line
from miao_service import shards_cli
from miao_service.auth import keys_cli
from miao_service.errors import OutdatedFrontError, RequestConflictError

from ...conftest import RedisServer
from .conftest import ScriptedWorker, Stubs, card

SPEC = GenerationSpec(prompt="hello", max_tokens=20)


@pytest.fixture
def workers(servers: dict[str, RedisServer]) -> Iterator[dict[str, ScriptedWorker]]:
    """One on each Redis, as a real one is on all of them."""
    made = {}
    for name, server in servers.items():
        made[name] = ScriptedWorker(server.url, card())
        made[name].announce()
    yield made
    for worker in made.values():
        worker.redis.close()


@pytest.fixture
def addresses(servers: dict[str, RedisServer]) -> Callable[..., str]:
    """A list of Redis, by name and state."""
    return lambda **states: ",".join(f"{n}:{s}={servers[n].url}" for n, s in states.items())


@pytest.fixture
def start(start_front: Any, addresses: Any, workers: Any) -> Any:
    @contextlib.asynccontextmanager
    async def begin(states: dict[str, str], **changes: Any) -> AsyncIterator[Stubs]:
        async with start_front(redis_url=addresses(**states), **changes) as stubs:
            yield stubs

    return begin


@pytest.fixture
async def front(start: Any) -> AsyncIterator[Stubs]:
    async with start({"a": "settled", "b": "settled"}) as stubs:
        yield stubs


def ids_on(place: str, addresses: Any, count: int = 1, **states: str) -> list[str]:
    """Request ids whose place is this one."""
    shards = ShardMap.parse(addresses(**(states or {"a": "settled", "b": "settled"})))
    names = (f"r{number}" for number in range(10_000))
    found = (
        name
        for name in names
        if shards.candidates(records.generation_id("default", name))[0].name == place
    )
    return [next(found) for _ in range(count)]


async def create(stubs: Stubs, request_id: str = "", **spec: Any) -> str:
    asked = GenerationSpec()
    asked.CopyFrom(SPEC)
    asked.MergeFrom(GenerationSpec(**spec))
    request = rpc.CreateGenerationRequest(request_id=request_id, spec=asked)
    reply = await stubs.generations.CreateGeneration(request)
    return str(reply.generation.generation_id)


async def read(stubs: Stubs, request_id: str) -> list[Any]:
    request = rpc.GenerateRequest(request_id=request_id, spec=SPEC)
    return [response async for response in stubs.generations.Generate(request)]


def holders(generation_id: str, workers: dict[str, ScriptedWorker]) -> list[str]:
    key = keys.generation(generation_id)
    return [name for name, worker in workers.items() if worker.redis.hexists(key, "status")]


async def test_generations_lie_where_their_id_says_and_are_found_by_all_calls(
    front: Stubs, workers: Any, addresses: Any, as_text: Any
) -> None:
    for place in ("a", "b"):
        (request_id,) = ids_on(place, addresses)
        reading = asyncio.ensure_future(read(front, request_id))
        claimed = await workers[place].answer("hi ", "there")
        assert as_text(await reading) == "hi there"
        assert holders(claimed.generation_id, workers) == [place]
        asked = rpc.GetGenerationRequest(generation_id=claimed.generation_id, include_output=True)
        got = (await front.generations.GetGeneration(asked)).generation
        assert got.output.text == "hi there"
        following = rpc.FollowGenerationRequest(
            generation_id=claimed.generation_id, after_sequence_number=3
        )
        rest = [each async for each in front.generations.FollowGeneration(following)]
        assert as_text(rest) == "there"
    waiting = await create(front, ids_on("b", addresses, 2)[1])
    cancelled = await front.generations.CancelGeneration(
        rpc.CancelGenerationRequest(generation_id=waiting)
    )
    assert cancelled.generation.HasField("finished")


async def test_lists_models_usage_and_audit_are_of_all(
    start: Any, workers: Any, addresses: Any
) -> None:
    async with start({"a": "settled", "b": "settled"}, audit_entries=1000) as front:
        names = ids_on("a", addresses, 6) + ids_on("b", addresses, 5)
        made = [await create(front, name) for name in names]
        models = await front.models.ListModels(model_rpc.ListModelsRequest())
        (model,) = models.models
        assert (model.num_workers, model.num_queued) == (1, 11)
        for place, count in (("a", 6), ("b", 5)):
            for _ in range(count):
                await workers[place].answer("hi")
        listed: list[str] = []
        token = ""
        while True:
            page = await front.generations.ListGenerations(
                rpc.ListGenerationsRequest(page_size=4, page_token=token)
            )
            listed += (each.generation_id for each in page.generations)
            if not (token := page.next_page_token):
                break
        assert sorted(listed) == sorted(made)
        assert listed[0] == made[-1]
        usage: Any = usage_service_pb2_grpc.UsageServiceStub(front.channel)
        (total,) = (await usage.SumUsage(usage_rpc.SumUsageRequest())).sums
        assert (total.num_requests, total.output_tokens) == (11, 22)
        billed: list[str] = []
        token = ""
        while True:
            asked = usage_rpc.ListUsageRecordsRequest(page_size=4, page_token=token)
            rows = await usage.ListUsageRecords(asked)
            token = rows.next_page_token
            if not rows.records:
                break
            billed += (row.generation_id for row in rows.records)
        assert sorted(billed) == sorted(made)
        fleet: Any = fleet_service_pb2_grpc.FleetServiceStub(front.channel)
        audited: list[str] = []
        token = ""
        while True:
            found = await fleet.ListAuditRecords(
                fleet_rpc.ListAuditRecordsRequest(page_size=5, page_token=token)
            )
            audited += (r.generation_id for r in found.records if r.action == "CreateGeneration")
            if not (token := found.next_page_token):
                break
        assert sorted(audited) == sorted(made)


async def test_one_that_is_down_holds_up_its_own_alone(
    front: Stubs,
    workers: Any,
    servers: Any,
    addresses: Any,
    refused: Any,
    eventually: Any,
    as_text: Any,
) -> None:
    (here, after), (there,) = ids_on("a", addresses, 2), ids_on("b", addresses)
    streams = {"a": asyncio.ensure_future(read(front, here))}
    streams["b"] = asyncio.ensure_future(read(front, there))
    claimed = {name: await workers[name].next() for name in ("a", "b")}
    for name in ("a", "b"):
        workers[name].say(claimed[name], "one ")
    down = servers["b"]
    down.kill()
    try:
        workers["a"].say(claimed["a"], "two")
        workers["a"].finish(claimed["a"])
        assert as_text(await streams["a"]) == "one two"
        request = rpc.CreateGenerationRequest(request_id=ids_on("b", addresses, 2)[1], spec=SPEC)
        refusal = await refused(front.generations.CreateGeneration(request))
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        asked = rpc.GetGenerationRequest(generation_id=claimed["b"].generation_id)
        refusal = await refused(front.generations.GetGeneration(asked))
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        places = front.front.places.all
        await eventually(lambda: [place.is_up for place in places] == [True, False])
        assert holders(await create(front, after), {"a": workers["a"]}) == ["a"]
        refusal = await refused(front.generations.CreateGeneration(request))
        assert refusal.reason == "SHARD_UNAVAILABLE"
        async with AsyncClient(f"127.0.0.1:{front.port}") as client:
            for _ in range(8):  # whoever leaves the name to the SDK
                stream = client.generate("hi", max_tokens=5, on_disconnect="continue")
                async with stream:
                    assert holders(await stream.accepted(), {"a": workers["a"]}) == ["a"]
        for _ in range(8):  # whoever leaves the name to the front
            assert holders(await create(front), {"a": workers["a"]}) == ["a"]
        (model,) = (await front.models.ListModels(model_rpc.ListModelsRequest())).models
        assert model.num_workers == 1
        assert not streams["b"].done()
    finally:
        down.start()
    workers["b"].say(claimed["b"], "two")
    workers["b"].finish(claimed["b"])
    assert as_text(await streams["b"]) == "one two"


async def test_one_that_is_frozen_holds_up_nobody_else(
    start: Any, workers: Any, servers: Any, addresses: Any, refused: Any, eventually: Any
) -> None:
    async with start({"a": "settled", "b": "settled"}, redis_timeout_seconds=0.4) as front:
        frozen = servers["b"].process
        frozen.send_signal(signal.SIGSTOP)
        try:
            await eventually(lambda: not front.front.places.all[1].is_up)
            (here,), (there,) = ids_on("a", addresses), ids_on("b", addresses)
            assert await create(front, here)
            request = rpc.CreateGenerationRequest(request_id=there, spec=SPEC)
            refusal = await refused(front.generations.CreateGeneration(request))
            assert refusal.code is grpc.StatusCode.UNAVAILABLE
        finally:
            frozen.send_signal(signal.SIGCONT)
        await eventually(lambda: front.front.places.all[1].is_up)
        # What was given up is not accepted behind its caller's back.
        assert await create(front, there)
        assert workers["b"].redis.llen("rq:queue:tiny:normal") == 1


async def test_a_redis_comes_and_another_goes_and_the_same_request_stays_one(
    start: Any, workers: Any, addresses: Any, as_text: Any
) -> None:
    """All steps of a change, by two fronts of which one is a step behind."""
    steps = [
        {"a": "settled", "b": "settled"},
        {"a": "settled", "b": "settled", "c": "joining"},
        {"a": "settled", "b": "settled", "c": "new"},
        {"a": "draining", "b": "settled", "c": "new"},
    ]
    made: dict[str, str] = {}
    async with contextlib.AsyncExitStack() as stack:
        fronts = [await stack.enter_async_context(start(states)) for states in steps]
        for number, (behind, ahead) in enumerate(itertools.pairwise(fronts)):
            for request in range(12):
                name = f"step-{number}-{request}"
                first, second = (behind, ahead) if request % 2 else (ahead, behind)
                made[name] = await create(first, name)
                with contextlib.suppress(grpc.aio.AioRpcError):  # the SDK then asks another front
                    assert await create(second, name) == made[name]
                assert len(holders(made[name], workers)) == 1
        drained = fronts[-1]
        for name, generation_id in made.items():
            assert await create(drained, name) == generation_id
            assert len(holders(generation_id, workers)) == 1
        assert {holders(each, workers)[0] for each in made.values()} == {"a", "b", "c"}
        waiting = workers["a"].redis.llen("rq:queue:tiny:normal")
        for number in range(20):
            assert holders(await create(drained, f"late-{number}"), workers) != ["a"]
        assert workers["a"].redis.llen("rq:queue:tiny:normal") == waiting
        # What it still has is followed to its end.
        claimed = await workers["a"].answer("still here")
        follow = rpc.FollowGenerationRequest(generation_id=claimed.generation_id)
        said = [each async for each in drained.generations.FollowGeneration(follow)]
        assert as_text(said) == "still here"


async def test_a_front_that_is_behind_does_not_accept_what_another_has_placed(
    start: Any, workers: Any, addresses: Any
) -> None:
    """The moments between: barred where it was, and not yet where it will be."""
    before = {"a": "settled", "b": "settled", "c": "joining"}
    after = before | {"c": "new"}
    (request_id,) = ids_on("c", addresses, **after)
    async with start(before) as behind, start(after) as ahead:
        resolver = ahead.front._generations._resolver
        submission = await resolver.resolve(request_id, SPEC, "default")
        places, submitter = ahead.front.places, ahead.front._generations._submitter
        place = await places.of(submission)  # bars it
        assert place.name == "c"
        old = behind.front._generations._submitter
        old_place = await behind.front.places.of(submission)
        assert old_place.name in ("a", "b")
        with pytest.raises(OutdatedFrontError):
            await old.submit(submission, old_place)
        await submitter.submit(submission, place)
        assert (await behind.front.places.of(submission)).name == "c"
        assert holders(submission.generation_id, workers) == ["c"]
        other = dataclasses.replace(submission, fingerprint="another")
        with pytest.raises(RequestConflictError):
            await old.submit(other, await behind.front.places.of(other))


async def test_keys_and_the_report_are_of_all(
    start: Any,
    workers: Any,
    servers: Any,
    addresses: Any,
    tmp_path: Path,
    refused: Any,
    capsys: Any,
    monkeypatch: Any,
) -> None:
    peppers = tmp_path / "peppers"
    peppers.write_text(new_line("p1"), "utf-8")
    two, three = {"a": "settled", "b": "settled"}, {"a": "draining", "b": "settled", "c": "new"}
    monkeypatch.setenv("MIAO_API_KEY_PEPPER", str(peppers))

    async def run(main: Any, states: dict[str, str], *argv: str) -> tuple[int, str]:
        words = [*argv, "--redis-url", addresses(**states)]
        status = await asyncio.get_running_loop().run_in_executor(None, main, words)
        return status, capsys.readouterr().out.strip()

    _, key = await run(keys_cli.main, two, "create", "--tenant", "ann")
    _, other = await run(keys_cli.main, two, "create", "--tenant", "bob")
    assert (await run(keys_cli.main, three, "sync")) == (0, "2 keys")
    assert all(worker.redis.scard(keys.API_KEYS) == 2 for worker in workers.values())
    settings = {"api_key_pepper": str(peppers), "api_key_cache_seconds": 0.0}
    async with start({"b": "settled", "c": "settled"}, **settings) as front:
        list_models = partial(front.models.ListModels, model_rpc.ListModelsRequest())
        await list_models(metadata=[("authorization", f"Bearer {key}")])
        await run(keys_cli.main, {"c": "settled"}, "revoke", key)  # as b was down meanwhile
        barred = list_models(metadata=[("authorization", f"Bearer {key}")])
        assert (await refused(barred)).reason == "BAD_CREDENTIALS"
        await list_models(metadata=[("authorization", f"Bearer {other}")])
    async with start(two) as front:
        here, there = ids_on("a", addresses, 3), ids_on("b", addresses, 2)
        for name in (*here, *there):
            await create(front, name)
        await workers["a"].answer("hi")
    status, said = await run(shards_cli.main, three, "--json")
    reports = {report["name"]: report for report in json.loads(said)}
    assert status == 0
    assert (reports["a"]["waiting"], reports["a"]["running"], reports["a"]["kept"]) == (2, 0, 3)
    assert (reports["b"]["waiting"], reports["c"]["waiting"]) == (2, 0)
    assert [report["workers"] for report in reports.values()] == [1, 1, 1]
    assert "keep it: callers may ask" in (await run(shards_cli.main, three))[1]
    workers["a"].redis.flushall()
    assert "empty" in (await run(shards_cli.main, three))[1].splitlines()[1]
    servers["b"].kill()
    try:
        status, said = await run(shards_cli.main, three)
        assert (status, said.splitlines()[2].split()[:3]) == (1, ["b", "settled", "no"])
        status, _ = await run(keys_cli.main, three, "revoke", other)
        assert status == 1  # one has not heard of it
    finally:
        servers["b"].start()


async def test_a_tenant_with_limits_has_one_place_where_they_are_exact(
    start: Any, workers: Any, addresses: Any, tmp_path: Path, refused: Any
) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[default]\nconcurrent_generations = 5\n", "utf-8")
    uncounted = tmp_path / "uncounted.toml"
    uncounted.write_text("[default]\nweight = 2\n", "utf-8")
    states = {"a": "settled", "b": "settled"}
    async with (
        start(states, limits_file=str(uncounted)) as free,
        start(states, limits_file=str(file)) as limited,
    ):
        spread = [await create(free, f"before-{number}") for number in range(8)]
        assert {holders(each, workers)[0] for each in spread} == {"a", "b"}
        # Whoever has got its first limit since finds what it had asked for before.
        for number, generation_id in enumerate(spread):
            assert await create(limited, f"before-{number}") == generation_id
        home = limited.front.places._candidates("tenant default")[0].name
        had = sum(holders(each, workers) == [home] for each in spread)
        for number in range(5 - had):
            assert holders(await create(limited, f"after-{number}"), workers) == [home]
        request = rpc.CreateGenerationRequest(request_id="one-more", spec=SPEC)
        refusal = await refused(limited.generations.CreateGeneration(request))
        assert refusal.reason == "LIMIT_REACHED"
        # And whoever loses its last.
        if had < 5:
            generation_id = await create(limited, "after-0")
            assert await create(free, "after-0") == generation_id
            assert len(holders(generation_id, workers)) == 1
