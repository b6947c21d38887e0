"""Front and worker, scraped while they serve."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest

from miao_client import Client, InvalidRequestError

from .conftest import Observed

Grown = Callable[..., Callable[..., float]]


def test_a_generation_is_counted_once_on_each_side(client: Client, grown: Grown) -> None:
    model = {"model_name": "tiny"}
    counted = {
        ("worker", "miao_generation_tokens_total"): 12,
        ("worker", "miao_claims_total"): 1,
        ("worker", "miao_time_to_first_token_seconds_count"): 1,
        ("worker", "miao_e2e_request_latency_seconds_count"): 1,
        ("worker", "miao_request_queue_time_seconds_count"): 1,
        ("front", "miao_front_accepted_total"): 1,
        ("front", "miao_front_time_to_first_token_seconds_count"): 1,
    }
    growth = {key: grown(*key, **model) for key in counted}
    of_tenant = grown("worker", "miao_tenant_tokens_total", tenant="default", kind="output")
    ended = grown("worker", "miao_request_success_total", **model, finished_reason="length")
    calls = grown("front", "miao_front_calls_total", method="Generate", code="OK")
    intervals = grown("worker", "miao_inter_token_latency_seconds_count", **model)
    steps = grown("worker", "miao_step_seconds_count", **model)
    result = client.generate("the quick brown fox", max_tokens=12, ignore_eos=True).result()
    assert {key: measure(counted[key]) for key, measure in growth.items()} == counted
    assert (of_tenant(12), ended(), calls()) == (12, 1, 1)
    assert steps(12) >= 12
    assert 1 <= intervals() <= 11  # steps that come together are one output
    assert result.usage is not None


def test_a_refusal_is_counted_by_its_reason(client: Client, grown: Grown) -> None:
    refusals = grown("front", "miao_admission_refusals_total", reason="INVALID_REQUEST")
    with pytest.raises(InvalidRequestError):
        client.generate("x", max_tokens=100_000).result()
    assert refusals() == 1


def test_a_prefix_that_was_found_is_counted(client: Client, grown: Grown) -> None:
    prompt = "0123456789 " * 12
    client.generate(prompt, max_tokens=1).result()
    hits = grown("worker", "miao_prefix_cache_hits_total", model_name="tiny")
    again = client.generate(prompt, max_tokens=1).result()
    assert again.usage is not None
    assert hits(again.usage.cached_prompt_tokens) == again.usage.cached_prompt_tokens > 0


def test_an_engine_that_dies_is_counted_and_the_rest_goes_on(
    observed: Observed, client: Client, grown: Grown
) -> None:
    restarts = grown("worker", "miao_engine_restarts_total", model_name="tiny")
    tokens = grown("worker", "miao_tenant_tokens_total", tenant="default", kind="output")
    stream = client.generate("a", max_tokens=200, ignore_eos=True)
    chunks = iter(stream)
    next(chunks)
    (worker,) = (part for part in observed.stack._parts if part.name == "worker")
    children = psutil.Process(worker.process.pid).children(recursive=True)
    next(child for child in children if child.name() == "miao-engine").send_signal(signal.SIGKILL)
    for _ in chunks:
        pass
    assert restarts() == 1
    assert tokens(200) == 200


def test_a_front_knows_the_models_and_their_queues(observed: Observed, client: Client) -> None:
    assert observed.value("front", "miao_front_redis_up") == 1
    assert observed.value("front", "miao_model_workers", model_name="tiny") == 1
    assert observed.value("front", "miao_queue_waiting", model_name="tiny") == 0
    assert observed.value("front", "miao_front_open_streams") == 0
