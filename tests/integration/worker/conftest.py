"""Real worker processes on a tiny model, and generations put straight into the queue."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis import Redis

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import connection, events, keys
from miao_queue.records import Record, Status, Submission, SubmitOutcome
from miao_queue.store import Admission, GenerationStore
from miao_worker import cli
from tests.forked_worker import ForkedWorker, Main

MODEL = "tiny"


class Worker:
    """A worker in a process group of its own."""

    def __init__(
        self, redis_url: str, model: Path, log: Path, *options: str, main: Main = cli.main
    ) -> None:
        self._log = log
        arguments = ["--redis-url", redis_url, "--model", str(model), "--name", MODEL]
        arguments += ["--num-threads", "1", "--cache-gib", "0.01", "--device", "cpu", *options]
        self.process = ForkedWorker(arguments, log, main)

    def wait_ready(self, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while "worker serving" not in self._log.read_text():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)

    def health(self, service: str) -> int:
        """What a probe hears, with `--health-listen 0`."""
        found = re.search(r"health is served at (\S+?)[\"\s]", self._log.read_text())
        assert found is not None, self._log.read_text()
        with grpc.insecure_channel(found.group(1)) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            return int(check(health_pb2.HealthCheckRequest(service=service)).status)

    def engine_pid(self) -> int:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child.pid for child in children if child.name() == "miao-engine")

    @contextmanager
    def engine_held(self) -> Iterator[None]:
        """No step comes meanwhile, however fast the engine and however slow the test."""
        engine = psutil.Process(self.engine_pid())
        engine.suspend()
        try:
            yield
        finally:
            engine.resume()

    def stop(self) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Queue:
    """What a front would do, synchronously."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis = Redis.from_url(url)

    def submit(self, prompt: list[int], **changes: object) -> str:
        """Queue a greedy generation; `changes` are fields of the job or the submission."""
        job = Job(
            prompt_token_ids=prompt,
            max_tokens=int(str(changes.pop("max_tokens", 20))),
            sampling=changes.pop("sampling", pb.Sampling(temperature=0, top_p=1, seed=1)),  # type: ignore[arg-type]
            stop=changes.pop("stop", ()),  # type: ignore[arg-type]
            logprobs=changes.pop("logprobs", None),  # type: ignore[arg-type]
            answer_form=changes.pop("answer_form", None),  # type: ignore[arg-type]
            **changes.pop("job", {}),  # type: ignore[arg-type]
        )
        request_id = uuid4().hex  # a server killed just after it was emptied may know old ones
        values: dict[str, object] = {
            "request_id": request_id,
            "model": MODEL,
            "job": job,
            "accepted": pb.Accepted(request_id=request_id, num_prompt_tokens=len(prompt)),
            "fingerprint": "f",
            "timeout_ms": 120_000,
            "queue_timeout_ms": 120_000,
            "retention_seconds": 60,
        }
        submission = Submission(**(values | changes))  # type: ignore[arg-type]

        async def send(store: GenerationStore) -> None:
            result = await store.submit(submission, Admission(1000, require_worker=False))
            assert result.outcome is SubmitOutcome.ACCEPTED

        self.with_store(send)
        return submission.generation_id

    def with_store(self, use: Callable[[GenerationStore], object]) -> None:
        import asyncio

        async def run() -> None:
            client = connection.connect_async(self.url)
            try:
                await use(GenerationStore(client, "test"))  # type: ignore[misc]
            finally:
                await client.aclose()

        asyncio.run(run())

    def record(self, generation_id: str) -> Record:
        return Record.from_hash(generation_id, self.redis.hgetall(keys.generation(generation_id)))

    def wait_finished(self, generation_id: str, timeout: float = 60) -> Record:
        return self.wait(generation_id, lambda r: r.status is Status.FINISHED, timeout)

    def wait(
        self, generation_id: str, until: Callable[[Record], bool], timeout: float = 60
    ) -> Record:
        deadline = time.monotonic() + timeout
        while True:
            record = self.record(generation_id)
            if until(record):
                return record
            assert time.monotonic() < deadline, record
            time.sleep(0.01)

    def events(self, generation_id: str) -> list[pb.GenerationEvent]:
        """The journal, checked to be gapless and to end once."""
        rows = self.redis.xrange(keys.journal(generation_id))
        found = [events.decode(fields[events.FIELD]) for _, fields in rows]
        position = 0
        for event in found[:-1]:
            position += len(event.tokens.token_ids)
            assert event.sequence_number == position
        assert found[-1].HasField("finished")
        assert found[-1].sequence_number == position
        return found

    def token_ids(self, generation_id: str) -> list[int]:
        return [i for event in self.events(generation_id) for i in event.tokens.token_ids]


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    queue = Queue(redis_url)
    yield queue
    queue.redis.close()


@pytest.fixture
def start_worker(
    redis_url: str, tiny_model: Path, tmp_path: Path
) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start(*options: str, main: Main = cli.main) -> Worker:
        log = tmp_path / f"worker{len(workers)}.log"
        workers.append(Worker(redis_url, tiny_model, log, *options, main=main))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill_group()
