"""Several answers of one generation, through the death of an engine and of a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from miao.v1 import generation_pb2 as pb
from miao_worker.engine.randomness import derived_seed

from .conftest import Queue, Worker

PROMPT = [9, 8, 7]
SAMPLING = pb.Sampling(temperature=1, top_p=0.95, seed=5)
MANY = {"num_answers": 3, "num_best": 2, "ranking": pb.RANKING_MEAN_LOGPROB, "echo_from": 0}
LENGTH = 140


def submit(queue: Queue, **job: object) -> str:
    return queue.submit(PROMPT, max_tokens=LENGTH, sampling=SAMPLING, logprobs=0, job=job)


def parts(queue: Queue, generation_id: str) -> dict[int, list[int]]:
    """Each answer's tokens; the prompt's under -1. The journal is checked to be whole."""
    found: dict[int, list[int]] = {}
    for event in queue.events(generation_id):
        index = -1 if event.tokens.is_prompt else event.tokens.answer_index
        found.setdefault(index, []).extend(event.tokens.token_ids)
    return found


def test_three_answers_survive_a_killed_engine_and_a_killed_worker(
    queue: Queue, start_worker: Callable[..., Worker]
) -> None:
    first = start_worker("--lease-seconds", "1")
    first.wait_ready()
    undisturbed = submit(queue, **MANY)
    alone = [
        queue.submit(
            PROMPT,
            max_tokens=LENGTH,
            sampling=pb.Sampling(temperature=1, top_p=0.95, seed=derived_seed(5, index)),
        )
        for index in range(3)
    ]
    expected = queue.wait_finished(undisturbed).finished
    assert expected is not None
    said = parts(queue, undisturbed)
    assert said[-1] == PROMPT
    for index, generation_id in enumerate(alone):
        queue.wait_finished(generation_id)
        assert queue.token_ids(generation_id) == said[index]

    killed_engine, killed_worker = submit(queue, **MANY), submit(queue, **MANY)
    queue.wait(killed_engine, lambda record: record.tokens > 60)
    os.kill(first.engine_pid(), signal.SIGKILL)
    at_death = queue.record(killed_worker).tokens
    queue.wait(killed_worker, lambda record: record.tokens > at_death + 60)
    first.process.kill()
    second = start_worker("--lease-seconds", "1")
    second.wait_ready()
    for generation_id in (killed_engine, killed_worker):
        record = queue.wait_finished(generation_id)
        assert parts(queue, generation_id) == said
        assert record.finished is not None
        for end, other in zip(record.finished.answers, expected.answers, strict=True):
            assert (end.reason, end.seed) == (other.reason, other.seed)
            assert end.total_logprob == pytest.approx(other.total_logprob, abs=1e-3)
        assert record.finished.best == expected.best
        assert record.finished.usage.output_tokens == 3 * LENGTH
    assert queue.record(killed_worker).attempt == 2
    assert len(expected.best) == 2
