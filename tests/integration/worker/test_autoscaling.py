"""The rule by which the manifests scale workers, on the real queue: from none to some and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from miao_queue import access, keys
from miao_queue.records import Status
from tests.cluster.autoscaler import COUNT, Autoscaler, Rule
from tests.conftest import knows_the_users
from tests.unit.cluster import manifests

from .conftest import Queue, Worker

MODEL = "chat"  # the manifests' own example
PROMPT = [10, 20, 30]


@pytest.fixture
def rule() -> Rule:
    """As it is applied; where kubectl is missing, as it stands in the file."""
    documents = manifests.render("autoscaling") if manifests.has_kubectl else manifests.written()
    return Rule.of(manifests.the(documents, "ScaledObject", f"worker-{MODEL}"))


@pytest.fixture
def count(queue: Queue) -> Iterator[Callable[[str], int]]:
    """Counts as KEDA does, as the user that it comes as."""
    if not knows_the_users():
        pytest.skip("this Redis is older than 7.2")
    user = next(user for user in access.USERS if user.name == "miao-scaler")
    words = user.line().split()[3:]
    queue.redis.execute_command("ACL", "SETUSER", user.name, "on", ">secret", *words[1:])
    url = queue.url.replace("redis://", f"redis://{user.name}:secret@")
    with Redis.from_url(url) as scaler:
        yield lambda key: int(scaler.eval(COUNT, 1, key))
    queue.redis.execute_command("ACL", "DELUSER", user.name)


class Deployment:
    """The workers of a Deployment: as many as it is told, the youngest goes first."""

    def __init__(self, start: Callable[..., Worker]) -> None:
        self.workers: list[Worker] = []
        self._start = start

    def scale(self, replicas: int) -> None:
        new = [
            self._start("--name", MODEL, "--max-sequences", "60", "--drain-seconds", "1")
            for _ in range(replicas - len(self.workers))
        ]
        for worker in new:
            worker.wait_ready()
        gone, self.workers = self.workers[replicas:], [*self.workers, *new][:replicas]
        for worker in gone:
            assert worker.stop() == 0


def submit(queue: Queue, priority: str, max_tokens: int = 3) -> str:
    return queue.submit(PROMPT, model=MODEL, priority=priority, max_tokens=max_tokens)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_come_for_what_waits_stay_for_what_runs_and_go_when_nothing_does(
    queue: Queue, start_worker: Callable[..., Worker], count: Callable[[str], int], rule: Rule
) -> None:
    scaler, deployment = Autoscaler(rule, count), Deployment(start_worker)
    assert scaler.advance(rule.cooldown_seconds) == 0

    # From none to as many as it takes, for work of all priorities.
    ids = [submit(queue, priority) for priority in keys.PRIORITIES for _ in range(35)]
    assert scaler.advance(rule.polling_seconds) == 1
    assert scaler.metric == len(ids) > 2 * rule.target
    deployment.scale(1)
    held = deployment.workers[0]
    with held.engine_held():
        queue.wait(ids[0], lambda record: record.status is Status.RUNNING)
        wait_until(lambda: rule.metric(count) == len(ids))  # RQ's books follow claims
        assert scaler.advance(60) == 3  # what runs counts as it did while it waited
        deployment.scale(3)
    for generation_id in ids:
        queue.wait_finished(generation_id)

    # Down to one, one a minute. What runs holds that one, however long it takes.
    wait_until(lambda: rule.metric(count) == 0)
    with contextlib.ExitStack() as held_all:
        for worker in deployment.workers:
            held_all.enter_context(worker.engine_held())
        long = submit(queue, "low", max_tokens=120)
        queue.wait(long, lambda record: record.status is Status.RUNNING)
        wait_until(lambda: rule.metric(count) == 1)
        seen = [scaler.advance(60) for _ in range(10)]
        assert [seen.count(replicas) for replicas in (3, 2, 1)] == [4, 1, 5]
        assert scaler.advance(rule.cooldown_seconds) == 1
        assert scaler.metric == 1
    deployment.scale(1)  # those that go finish what they run, or hand it over
    assert queue.wait_finished(long).tokens == len(queue.token_ids(long)) == 120

    # To none, not before the cooldown, and from there again by one request.
    wait_until(lambda: rule.metric(count) == 0)
    assert scaler.advance(rule.cooldown_seconds - rule.polling_seconds) == 1
    assert scaler.advance(rule.polling_seconds) == 0
    deployment.scale(0)
    assert not deployment.workers
    again = submit(queue, "high")
    deployment.scale(scaler.advance(rule.polling_seconds))
    assert len(deployment.workers) == 1
    queue.wait_finished(again)
