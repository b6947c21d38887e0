"""Fronts as processes: the ready line, draining on a signal, several behind one port."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub
from miao.v1.model_service_pb2_grpc import ModelServiceStub


def spec(**changes: Any) -> rpc.GenerateRequest:
    return rpc.GenerateRequest(spec=pb.GenerationSpec(**({"prompt": "hello"} | changes)))


async def test_on_sigterm_short_streams_end_and_long_ones_move_on(
    start_process: Any, redis_url: str, worker: Any, refused: Any, start_front: Any, as_text: Any
) -> None:
    async with start_process() as front, start_front() as other:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{front.port}")
        async with channel:
            stub: Any = GenerationServiceStub(channel)
            short, long = aiter(stub.Generate(spec())), aiter(stub.Generate(spec()))
            for stream in (short, long):
                accepted = (await anext(stream)).event.accepted
            first, second = await worker.next(), await worker.next()
            if first.generation_id == accepted.generation_id:
                first, second = second, first
            worker.say(second, "ab")
            assert (await anext(long)).event.tokens.text == "ab"
            stopping = asyncio.create_task(front.stop())
            await asyncio.sleep(0.1)
            worker.say(first, "short")
            worker.finish(first)
            assert as_text([response async for response in short]) == "short"
            refusal = await refused(long)
            assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "DRAINING")
            assert await stopping == 0
        assert worker.append(second, pb.Tokens(text="c", token_ids=[1])) == 0  # not cancelled
        worker.finish(second)
        rest = other.generations.FollowGeneration(
            rpc.FollowGenerationRequest(generation_id=second.generation_id, after_sequence_number=2)
        )
        assert as_text([response async for response in rest]) == "c"


async def test_several_processes_share_a_port_and_end_together(
    start_process: Any, redis_url: str, worker: Any, as_text: Any, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics = f"127.0.0.1:{free.getsockname()[1]}"
    options = ("--processes", "2", "--ready-file", str(ready), "--metrics-listen", metrics)
    async with start_process(*options) as fleet:
        assert ready.read_text() == f"{fleet.port}\n"
        for _ in range(4):  # each on a connection, and so perhaps a process, of its own
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{fleet.port}", options) as channel:
                stub: Any = GenerationServiceStub(channel)
                stream = stub.Generate(spec())
                await worker.answer("abc")
                assert as_text([response async for response in stream]) == "abc"
        scraped = await asyncio.to_thread(lambda: urlopen(f"http://{metrics}/metrics").read())
        assert b'miao_front_accepted_total{model_name="tiny"} 4.0' in scraped  # of both together
        assert await fleet.stop(signal.SIGINT) == 0


async def test_a_taken_port_is_said_in_one_sentence(start_process: Any, redis_url: str) -> None:
    async with start_process() as front:
        for more in ([], ["--processes", "2"]):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "miao_service", "--redis-url", redis_url),
                *("--listen", f"127.0.0.1:{front.port}", *more),
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await process.communicate()
            assert process.returncode == 1
            assert said.decode() == (
                f"miao service: cannot listen on 127.0.0.1:{front.port}: Address already in use\n"
            )


async def test_a_front_starts_without_redis_and_serves_once_it_is_there(
    start_process: Any, redis_server: Any, redis_url: str, worker: Any
) -> None:
    redis_server.kill()
    try:
        async with start_process() as front:
            redis_server.start()
            worker.announce()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{front.port}") as channel:
                stub: Any = ModelServiceStub(channel)
                listed = await stub.ListModels(model_service_pb2.ListModelsRequest())
                assert [model.name for model in listed.models] == ["tiny"]
    finally:
        if redis_server.process is None:
            redis_server.start()


@pytest.mark.parametrize("module", ["miao_service", "miao_service.cli", "miao_service.front"])
async def test_a_front_loads_neither_torch_nor_transformers(module: str) -> None:
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0
