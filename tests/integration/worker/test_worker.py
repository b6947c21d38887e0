"""A real worker: journals, RQ's view, cancels, deadlines, crashes, takeovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rq import Queue as RqQueue
from rq.command import send_stop_job_command
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker
from transformers import AutoTokenizer

from miao.internal.v1.queue_pb2 import Explanation, ExplanationEntry, ExplanationResult
from miao.v1 import generation_pb2 as pb
from miao.v1.explanation_pb2 import EXPLAIN_METHOD_INTEGRATED_GRADIENTS as INTEGRATED
from miao_queue import events, keys
from miao_queue.records import CancelOutcome, Status
from miao_queue.telemetry.probes import LIVENESS

from .conftest import Queue, Worker

PROMPT = [10, 20, 30, 40]
SERVING = 1  # of grpc.health.v1


@pytest.fixture
def worker(start_worker: Callable[..., Worker]) -> Worker:
    worker = start_worker()
    worker.wait_ready()
    return worker


def rq_job(queue: Queue, generation_id: str) -> RqJob:
    return RqJob.fetch(generation_id, connection=queue.redis, serializer=JSONSerializer)


def wait_until(condition: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_generations_stream_into_journals_as_transformers_would_say_them(
    queue: Queue,
    worker: Worker,
    expected: Callable[[list[int], int], list[int]],
    tiny_model: Path,
) -> None:
    prompts = [[10 + i, 20, 30 + i] for i in range(6)]
    ids = [queue.submit(prompt, max_tokens=12 + i) for i, prompt in enumerate(prompts)]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    for i, generation_id in enumerate(ids):
        record = queue.wait_finished(generation_id)
        assert record.finished is not None
        assert record.finished.reason == pb.FINISH_REASON_LENGTH
        assert record.finished.usage.output_tokens == 12 + i
        tokens = queue.token_ids(generation_id)
        assert tokens == expected(prompts[i], 12 + i)
        text = "".join(event.tokens.text for event in queue.events(generation_id))
        assert text == tokenizer.decode(tokens, skip_special_tokens=True)
    wait_until(lambda: rq_job(queue, ids[-1]).get_status() == "finished")
    rq_queue = RqQueue(keys.queue_name("tiny", "normal"), queue.redis, serializer=JSONSerializer)
    wait_until(lambda: rq_queue.started_job_registry.count == 0)
    assert rq_queue.finished_job_registry.count == len(ids)


def test_rq_shows_the_worker_and_what_it_executes(queue: Queue, worker: Worker) -> None:
    rq_queue = RqQueue(keys.queue_name("tiny", "normal"), queue.redis, serializer=JSONSerializer)
    with worker.engine_held():
        generation_id = queue.submit(PROMPT)
        wait_until(lambda: rq_queue.started_job_registry.count == 1)
        shown = BaseWorker.all(connection=queue.redis)
        assert [w.get_state() for w in shown] == ["busy"]
        assert rq_job(queue, generation_id).get_status() == "started"
    info = subprocess.run(
        [Path(sys.executable).with_name("rq"), "info", "--url", queue.url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1 workers" in info.stdout
    queue.wait_finished(generation_id)
    wait_until(lambda: BaseWorker.all(connection=queue.redis)[0].get_state() == "idle")


def test_a_stop_text_ends_the_generation_and_is_not_shown(
    queue: Queue, worker: Worker, tiny_model: Path, expected: Callable[[list[int], int], list[int]]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    whole = tokenizer.decode(expected(PROMPT, 40), skip_special_tokens=True)
    stop = whole[10:13]
    record = queue.wait_finished(queue.submit(PROMPT, max_tokens=40, stop=[stop]))
    assert record.finished is not None
    assert (record.finished.reason, record.finished.stop) == (pb.FINISH_REASON_STOP, stop)
    text = "".join(event.tokens.text for event in queue.events(record.generation_id))
    assert text == whole[: whole.index(stop)]


def test_logprobs_come_with_their_tokens(queue: Queue, worker: Worker) -> None:
    generation_id = queue.submit(PROMPT, max_tokens=5, logprobs=3)
    queue.wait_finished(generation_id)
    for event in queue.events(generation_id)[:-1]:
        for token_id, logprobs in zip(event.tokens.token_ids, event.tokens.logprobs, strict=True):
            assert len(logprobs.top) == 3
            assert logprobs.top[0].token_id == token_id  # greedy takes the likeliest
            assert logprobs.top[0].logprob == pytest.approx(logprobs.logprob)


def test_a_cancel_ends_a_running_generation_soon(queue: Queue, worker: Worker) -> None:
    generation_id = queue.submit(PROMPT, max_tokens=480)
    queue.wait(generation_id, lambda record: record.tokens > 3)

    async def cancel(store: object) -> None:
        assert await store.cancel(generation_id) is CancelOutcome.RUNNING  # type: ignore[attr-defined]

    with worker.engine_held():
        queue.with_store(cancel)
    record = queue.wait_finished(generation_id)
    assert record.finished is not None
    assert record.finished.reason == pb.FINISH_REASON_CANCELLED
    assert record.tokens < 480
    queue.events(generation_id)
    wait_until(lambda: rq_job(queue, generation_id).get_status() == "canceled")


def test_rqs_stop_job_ends_a_running_generation(queue: Queue, worker: Worker) -> None:
    with worker.engine_held():
        generation_id = queue.submit(PROMPT, max_tokens=480)
        wait_until(lambda: rq_job(queue, generation_id).get_status() == "started")
        send_stop_job_command(queue.redis, generation_id, serializer=JSONSerializer)
    record = queue.wait_finished(generation_id)
    assert record.finished is not None
    assert record.finished.reason == pb.FINISH_REASON_CANCELLED
    wait_until(lambda: rq_job(queue, generation_id).get_status() == "stopped")


def test_deadlines_end_what_runs_and_what_waits(
    queue: Queue, start_worker: Callable[..., Worker]
) -> None:
    waiting = queue.submit(PROMPT, queue_timeout_ms=1)
    worker = start_worker()
    worker.wait_ready()
    with worker.engine_held():
        running = queue.submit(PROMPT, max_tokens=500, timeout_ms=300)
        queue.wait_finished(running)
    for generation_id in (waiting, running):
        record = queue.wait_finished(generation_id)
        assert record.finished is not None
        assert record.finished.reason == pb.FINISH_REASON_DEADLINE_EXCEEDED
        queue.events(generation_id)
    assert queue.record(waiting).tokens == 0
    wait_until(lambda: rq_job(queue, waiting).get_status() == "failed")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_hanging_engine_costs_no_token(
    queue: Queue,
    start_worker: Callable[..., Worker],
    expected: Callable[[list[int], int], list[int]],
    how: signal.Signals,
) -> None:
    worker = start_worker("--step-timeout-seconds", "2")
    worker.wait_ready()
    ids = [queue.submit([9 + i, 8, 7], max_tokens=400) for i in range(3)]
    queue.wait(ids[0], lambda record: record.tokens > 20)
    os.kill(worker.engine_pid(), how)
    for i, generation_id in enumerate(ids):
        record = queue.wait_finished(generation_id)
        assert record.attempt == 1
        assert queue.token_ids(generation_id) == expected([9 + i, 8, 7], 400)


def explain(queue: Queue) -> str:
    asked = Explanation(method=INTEGRATED, steps=64, max_tokens=4)
    return queue.submit([9, 8, 7], job={"explanation": asked})


def explanation_of(queue: Queue, generation_id: str) -> ExplanationResult:
    """The answer in the only entry of its journal."""
    ((_, fields),) = queue.redis.xrange(keys.journal(generation_id))
    return ExplanationEntry.FromString(fields[events.FIELD]).result


def test_another_worker_takes_over_from_the_journal(
    queue: Queue,
    start_worker: Callable[..., Worker],
    expected: Callable[[list[int], int], list[int]],
) -> None:
    first = start_worker("--lease-seconds", "1")
    first.wait_ready()
    sampled = pb.Sampling(temperature=1, top_p=0.9, seed=5)
    ids = [queue.submit([9, 8, 7], max_tokens=450), queue.submit([5, 6], max_tokens=450)]
    ids.append(queue.submit([3, 4], max_tokens=450, sampling=sampled))
    queue.wait(ids[0], lambda record: record.tokens > 20)
    engine = first.engine_pid()
    os.kill(engine, signal.SIGSTOP)  # so that the explanation is claimed, and not yet there
    ids.append(explain(queue))
    queue.wait(ids[3], lambda record: record.status is Status.RUNNING)
    os.kill(first.process.pid, signal.SIGSTOP)  # later it wakes as a zombie
    os.kill(engine, signal.SIGCONT)
    second = start_worker("--lease-seconds", "1")
    second.wait_ready()
    for generation_id in ids:
        assert queue.wait_finished(generation_id).attempt == 2
    assert queue.token_ids(ids[0]) == expected([9, 8, 7], 450)
    assert queue.token_ids(ids[1]) == expected([5, 6], 450)
    undisturbed = [queue.submit([3, 4], max_tokens=450, sampling=sampled), explain(queue)]
    for generation_id in undisturbed:
        queue.wait_finished(generation_id)
    assert queue.token_ids(ids[2]) == queue.token_ids(undisturbed[0])
    found, expected_shares = explanation_of(queue, ids[3]), explanation_of(queue, undisturbed[1])
    assert [token.token_id for token in found.output] == expected([9, 8, 7], 4)
    for mine, theirs in zip(found.attributions, expected_shares.attributions, strict=True):
        assert list(mine.scores) == pytest.approx(list(theirs.scores), abs=1e-3)
    before = {i: queue.redis.xrange(keys.journal(i)) for i in ids}
    os.kill(first.process.pid, signal.SIGCONT)
    again = queue.submit([1, 2], max_tokens=30)
    queue.wait_finished(again)
    wait_until(lambda: all(w.get_state() == "idle" for w in BaseWorker.all(queue.redis)))
    assert {i: queue.redis.xrange(keys.journal(i)) for i in ids} == before


def test_a_terminated_worker_hands_its_generations_over(
    queue: Queue,
    start_worker: Callable[..., Worker],
    expected: Callable[[list[int], int], list[int]],
) -> None:
    first = start_worker("--drain-seconds", "0", "--health-listen", "0")
    first.wait_ready()
    assert first.health("") == first.health(LIVENESS) == SERVING
    for i in range(12):  # they make the steps long enough for the signal to come in between
        queue.submit([9 + i, 5], max_tokens=450)
    generation_id = queue.submit(PROMPT, max_tokens=450)
    queue.wait(generation_id, lambda record: record.tokens > 5)
    assert first.stop() == 0
    assert queue.record(generation_id).status is Status.QUEUED
    assert rq_job(queue, generation_id).get_status() == "queued"
    second = start_worker()
    second.wait_ready()
    assert queue.wait_finished(generation_id).attempt == 2
    assert queue.token_ids(generation_id) == expected(PROMPT, 450)


def test_a_terminated_worker_finishes_what_runs_and_takes_no_more(
    queue: Queue, worker: Worker, expected: Callable[[list[int], int], list[int]]
) -> None:
    running = queue.submit(PROMPT, max_tokens=450)
    queue.wait(running, lambda record: record.tokens > 5)
    # An autoscaler counts what runs, and stops no worker that has some.
    wait_until(lambda: queue.redis.zcard("rq:wip:tiny:normal") == 1)
    worker.process.terminate()
    wait_until(lambda: not queue.redis.zcard(keys.workers("tiny")))
    waiting = queue.submit(PROMPT)
    assert worker.process.wait(30) == 0
    record = queue.record(running)
    assert (record.status, record.attempt) == (Status.FINISHED, 1)
    assert queue.redis.zcard("rq:wip:tiny:normal") == 0
    assert queue.token_ids(running) == expected(PROMPT, 450)
    assert queue.record(waiting).status is Status.QUEUED


def test_nothing_of_a_generation_outlasts_its_retention(queue: Queue, worker: Worker) -> None:
    brief = queue.submit(PROMPT, max_tokens=5, retention_seconds=1)
    queue.wait_finished(brief)
    kept = queue.submit(PROMPT, max_tokens=5)
    queue.wait_finished(kept)
    wait_until(lambda: not queue.redis.keys(f"*{brief}*"))
    assert queue.events(kept)


def test_a_job_that_is_no_generation_is_refused_and_never_run(
    queue: Queue, worker: Worker, tmp_path: Path
) -> None:
    target = tmp_path / "written"
    rq_queue = RqQueue(keys.queue_name("tiny", "normal"), queue.redis, serializer=JSONSerializer)
    job = rq_queue.enqueue("pathlib.Path.touch", str(target))
    wait_until(lambda: rq_job(queue, job.id).get_status() == "failed")
    assert not target.exists()
    queue.wait_finished(queue.submit(PROMPT, max_tokens=3))


def test_a_broken_model_ends_the_worker_with_one_sentence(redis_url: str, tmp_path: Path) -> None:
    worker = Worker(redis_url, tmp_path / "no-such-model", tmp_path / "log")
    assert worker.process.wait(60) == 1
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "no-such-model" in said.splitlines()[-1]


def test_json_is_taken_over_in_its_midst(
    queue: Queue, worker: Worker, start_worker: Callable[..., Worker]
) -> None:
    guide = 'start: %json {"type": "array", "items": {"type": "integer"}, "minItems": 150}'
    sampling = pb.Sampling(temperature=1, top_p=1, seed=5)

    def submit() -> str:
        return queue.submit(PROMPT, max_tokens=480, sampling=sampling, job={"guide": guide})

    whole = queue.wait_finished(submit())
    other = start_worker()
    other.wait_ready()
    generation_id = submit()
    queue.wait(generation_id, lambda r: r.tokens > 40)
    owner = min(BaseWorker.all(connection=queue.redis), key=lambda w: w.get_state() != "busy")
    victim = worker if owner.pid == worker.process.pid else other
    os.killpg(victim.process.pid, signal.SIGKILL)
    record = queue.wait_finished(generation_id)
    assert record.attempt == 2
    assert queue.token_ids(generation_id) == queue.token_ids(whole.generation_id)
    text = "".join(event.tokens.text for event in queue.events(generation_id))
    assert record.finished is not None
    if record.finished.reason == pb.FINISH_REASON_STOP:
        assert len(json.loads(text)) >= 150
    else:
        assert text.startswith("[")
