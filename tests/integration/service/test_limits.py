"""What a caller is told at a limit, and that new limits need no restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_queue.records import cache_scope

KEYS = "miao:*"


def create(front: Any, prompt: str = "hi", **spec: Any) -> Any:
    """A prompt of as many tokens as it has letters, and an output of up to 8."""
    spec = {"prompt": prompt, "max_tokens": 8, **spec}
    return front.generations.CreateGeneration(
        rpc.CreateGenerationRequest(spec=pb.GenerationSpec(**spec))
    )


@pytest.mark.parametrize(
    ("policy", "taken", "used", "value"),
    [
        ("requests_per_minute = 2", 2, 2, 2),
        ("tokens_per_minute = 25", 2, 20, 25),
        ("concurrent_generations = 1", 1, 1, 1),
        ("backlog = 3", 3, 3, 3),
    ],
)
async def test_a_limit_that_is_reached_is_named_with_its_value_and_a_time_to_return(
    start_front: Any,
    worker: Any,
    refused: Any,
    database: Any,
    tmp_path: Path,
    policy: str,
    taken: int,
    used: int,
    value: int,
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(f"[tenants.default.models.tiny]\n{policy}\n")
    name = policy.partition(" ")[0]
    async with start_front(limits_file=str(path)) as front:
        for _ in range(taken):
            await create(front)
        before = set(database.keys(KEYS))
        refusal = await refused(create(front))
        assert set(database.keys(KEYS)) == before
    assert refusal.code.name == "RESOURCE_EXHAUSTED"
    assert refusal.reason == "LIMIT_REACHED"
    assert f"the limit {name} of the tenant 'default' with the model 'tiny' is {value};" in (
        refusal.message
    )
    info = refusal.detail(error_details_pb2.ErrorInfo)
    assert dict(info.metadata) == {
        "tenant": "default",
        "model": "tiny",
        "limit": name,
        "value": str(value),
        "used": str(used),
    }
    (violation,) = refusal.detail(error_details_pb2.QuotaFailure).violations
    assert violation.subject == f"tenant:default/model:tiny/{name}"
    delay = refusal.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds()
    assert (55_000 < delay <= 61_000) if "minute" in name else delay == 1000


async def test_what_is_never_possible_is_no_matter_of_waiting(
    start_front: Any, worker: Any, refused: Any, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text('[default]\nrequest_tokens = 12\npriorities = ["normal", "low"]\n')
    async with start_front(limits_file=str(path)) as front:
        await create(front, "four", priority=pb.PRIORITY_LOW)
        too_large = await refused(create(front, "five!"))
        denied = await refused(create(front, priority=pb.PRIORITY_HIGH))
    assert too_large.code.name == "INVALID_ARGUMENT"
    assert too_large.fields == ["spec.max_tokens"]
    assert "may come to 13 tokens; the limit request_tokens" in too_large.message
    assert denied.code.name == "PERMISSION_DENIED"
    assert "the limit priorities allows normal, low" in denied.message
    kinds = {packed.TypeName() for each in (too_large, denied) for packed in each.status.details}
    assert "google.rpc.RetryInfo" not in kinds


async def test_limits_change_while_the_front_runs(
    start_front: Any, worker: Any, refused: Any, eventually: Any, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\nconcurrent_generations = 1\n")
    async with start_front(limits_file=str(path)) as front:
        await create(front)
        await refused(create(front))
        path.write_text("[default]\nconcurrent_generations = 22\n")
        file = front.front.policies
        await eventually(lambda: file.policies.limits("a", "m").concurrent_generations == 22)
        await create(front)


async def test_the_same_request_is_not_counted_again(
    start_front: Any, worker: Any, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\nrequests_per_minute = 1\nconcurrent_generations = 1\n")
    request = rpc.CreateGenerationRequest(
        request_id="once", spec=pb.GenerationSpec(prompt="hi", max_tokens=8)
    )
    async with start_front(limits_file=str(path)) as front:
        ids = {
            (await front.generations.CreateGeneration(request)).generation.generation_id
            for _ in range(3)
        }
    assert len(ids) == 1


async def test_a_policy_keeps_what_was_computed_of_prompts_to_its_tenant(
    start_front: Any, worker: Any, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[tenants.default.models.tiny]\nshare_prefix_cache = false\n")
    scopes = []
    async with start_front() as shared, start_front(limits_file=str(path)) as private:
        for front, salt in ((shared, ""), (shared, "s"), (private, ""), (private, "s")):
            await create(front, cache_salt=salt)
            scopes.append(Job.FromString(worker.claim().state[b"job"]).cache_scope)
    mine, salted = cache_scope("default"), cache_scope("default", "s")
    assert scopes == [b"", salted, mine, salted]
    assert len({mine, salted, cache_scope("other"), cache_scope("other", "s")}) == 4
