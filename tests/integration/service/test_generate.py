"""Generate, end to end: a request becomes a job, what a worker writes becomes a stream."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis import Redis

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc


def request(**changes: Any) -> rpc.GenerateRequest:
    return rpc.GenerateRequest(
        request_id=changes.pop("request_id", ""),
        spec=pb.GenerationSpec(**({"prompt": "hello", "max_tokens": 8} | changes)),
    )


async def test_a_stream_is_accepted_then_tokens_then_finished(front: Any, worker: Any) -> None:
    call = front.generations.Generate(request(request_id="r1"))
    answering = asyncio.create_task(worker.answer("ab", "c"))
    events = [response.event async for response in call]
    claimed = await answering
    assert [event.WhichOneof("event") for event in events] == [
        *("accepted", "tokens", "tokens", "finished")
    ]
    accepted = events[0].accepted
    assert accepted.generation_id == claimed.generation_id
    assert (accepted.request_id, accepted.model) == ("r1", "tiny")
    assert (accepted.num_prompt_tokens, accepted.max_tokens) == (5, 8)
    assert accepted.accept_time.seconds > 0
    assert [event.sequence_number for event in events] == [0, 2, 3, 3]
    assert [event.attempt for event in events] == [0, 1, 1, 1]
    assert events[-1].finished.reason == pb.FINISH_REASON_STOP


async def test_the_job_holds_every_choice(front: Any, worker: Any) -> None:
    call = front.generations.Generate(
        request(
            sampling=pb.Sampling(temperature=0.0, seed=7),
            stop=["x"],
            stop_token_ids=[3],
            logprobs=0,
            timeout={"seconds": 30},
        )
    )
    claimed = await worker.answer("a")
    assert [1 async for _ in call]
    job = Job.FromString(claimed.state[b"job"])
    assert len(job.prompt_token_ids) == 5
    assert job.max_tokens == 8
    assert (job.sampling.temperature, job.sampling.seed) == (0.0, 7)
    assert job.sampling.top_p == pytest.approx(0.9)
    assert (job.sampling.top_k, job.sampling.HasField("min_p")) == (50, True)
    assert list(job.stop_token_ids) == [3, 257]
    assert (job.HasField("logprobs"), job.logprobs) == (True, 0)
    assert claimed.record.deadline_ms - claimed.record.accept_ms == 30_000


async def test_what_is_left_out_is_chosen(front: Any, worker: Any) -> None:
    spec = pb.GenerationSpec(token_ids=pb.TokenIds(ids=[1, 2]), ignore_eos=True)
    call = front.generations.Generate(rpc.GenerateRequest(spec=spec))
    claimed = await worker.answer("a")
    events = [response.event async for response in call]
    job = Job.FromString(claimed.state[b"job"])
    assert job.max_tokens == 4094
    assert job.sampling.HasField("seed")
    assert events[0].accepted.seed == job.sampling.seed
    assert list(job.stop_token_ids) == []
    assert not job.HasField("logprobs")
    assert events[0].accepted.request_id


async def test_the_calls_deadline_travels_with_the_job(front: Any, worker: Any) -> None:
    call = front.generations.Generate(request(timeout={"seconds": 60}), timeout=20)
    claimed = await worker.answer("a")
    assert [1 async for _ in call]
    assert 15_000 < claimed.record.deadline_ms - claimed.record.accept_ms <= 20_000
    assert claimed.record.queue_deadline_ms == claimed.record.deadline_ms


async def test_the_same_request_attaches_and_sees_the_whole_stream(
    front: Any, worker: Any, start_front: Any
) -> None:
    async with start_front() as other:
        first = front.generations.Generate(request(request_id="same"))
        claimed = await worker.next()
        worker.say(claimed, "ab")
        second = aiter(other.generations.Generate(request(request_id="same")))
        assert (await anext(second)).event.HasField("accepted")
        worker.say(claimed, "cd")
        worker.finish(claimed)
        one = [response async for response in first]
        two = [response async for response in second]
        assert [response.event.sequence_number for response in two] == [2, 4, 4]
        assert one[1:] == two
        third = [r async for r in front.generations.Generate(request(request_id="same"))]
        assert third == one
        assert worker.claim() is None


async def test_the_same_request_at_two_fronts_at_once_and_after_a_crash_is_one_generation(
    front: Any, worker: Any, start_front: Any, redis_server: Any, as_text: Any
) -> None:
    worker.redis.config_set("appendfsync", "always")
    async with start_front() as other:
        stubs = [front.generations, other.generations] * 10
        calls = [aiter(stub.Generate(request(request_id="same"))) for stub in stubs]
        first = await asyncio.gather(*map(anext, calls))
        assert len({response.event.accepted.generation_id for response in first}) == 1
        redis_server.kill()
        redis_server.start()
        again = aiter(other.generations.Generate(request(request_id="same")))
        assert (await anext(again)).event.accepted == first[0].event.accepted
        await worker.answer("abc")
        for call in (*calls, again):
            assert as_text([response async for response in call]) == "abc"
        assert worker.claim() is None


async def test_the_same_request_id_with_another_spec_conflicts(
    front: Any, worker: Any, refused: Any
) -> None:
    call = front.generations.Generate(request(request_id="same"))
    await worker.answer("a")
    assert [1 async for _ in call]
    refusal = await refused(front.generations.Generate(request(request_id="same", max_tokens=9)))
    assert refusal.code.name == "ALREADY_EXISTS"
    assert "same" in refusal.message


async def test_many_streams_at_once_each_get_their_own(front: Any, worker: Any) -> None:
    async def ask(index: int) -> str:
        call = front.generations.Generate(request(request_id=f"r{index}"))
        return "".join([response.event.tokens.text async for response in call])

    async def work() -> None:
        for _ in range(100):
            claimed = await worker.next()
            worker.say(claimed, claimed.record.request_id)
            worker.finish(claimed)

    working = asyncio.create_task(work())
    texts = await asyncio.gather(*(ask(index) for index in range(100)))
    await working
    assert texts == [f"r{index}" for index in range(100)]


async def test_a_job_is_rqs_own(front: Any, worker: Any, redis_url: str) -> None:
    call = aiter(front.generations.Generate(request(request_id="r1", priority=pb.PRIORITY_HIGH)))
    await anext(call)
    with Redis.from_url(redis_url) as client:
        assert client.llen("rq:queue:tiny:high") == 1
    await worker.answer("a")
    assert [1 async for _ in call]
