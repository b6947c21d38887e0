"""What a worker counts, and that it counts each thing once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from miao.v1 import generation_pb2 as pb
from miao_queue.telemetry.tenants import TenantLabels
from miao_worker.engine.types import EngineStats, StepOutput
from miao_worker.metrics import WorkerMetrics


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def attempt(model: str = "m", tenant: str = "t", **values: Any) -> Any:
    record = SimpleNamespace(
        model=model,
        tenant=tenant,
        attempt=1,
        accept_ms=1000,
        is_generation=True,
        accepted=pb.Accepted(num_prompt_tokens=10),
    )
    for name in ("attempt", "is_generation"):
        setattr(record, name, values.pop(name, getattr(record, name)))
    claim = SimpleNamespace(record=record, now_ms=1250)
    defaults = {"first_token_ms": 1500, "cached_prompt_tokens": 4, "last_tokens_at": None}
    return SimpleNamespace(claim=claim, **(defaults | values))


def finished(output_tokens: int = 5, *, has_begun: bool = True) -> pb.Finished:
    end = pb.Finished(reason=pb.FINISH_REASON_LENGTH)
    end.usage.prompt_tokens, end.usage.output_tokens = 10, output_tokens
    end.timings.queued.FromMilliseconds(250)
    if has_begun:
        end.timings.first_token.FromMilliseconds(500)
    end.timings.total.FromMilliseconds(2500)
    return end


def value(metrics: WorkerMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"miao_{name}", labels)


def test_a_batch_is_counted_by_model_and_by_the_time_since_its_last_tokens() -> None:
    clock = Clock()
    metrics = WorkerMetrics("m", clock=clock)
    old, new, adapted = attempt(), attempt(), attempt("m:a")
    batch = metrics.begin_batch()
    batch.add(old, 1)
    batch.end()
    clock.now += 0.02
    batch = metrics.begin_batch()
    for each, num_tokens in ((old, 3), (new, 1), (adapted, 2)):
        batch.add(each, num_tokens)
    batch.end()
    assert value(metrics, "generation_tokens_total", model_name="m") == 5
    assert value(metrics, "generation_tokens_total", model_name="m:a") == 2
    count = "inter_token_latency_seconds_count"
    assert value(metrics, count, model_name="m") == 1  # a first token has no interval
    assert value(metrics, count, model_name="m:a") is None
    bucket = {"model_name": "m", "le": "0.025"}
    assert value(metrics, "inter_token_latency_seconds_bucket", **bucket) == 1
    assert metrics.totals.output_tokens == 7


def test_a_generation_is_counted_once_through_its_phases() -> None:
    metrics = WorkerMetrics("m")
    one = attempt()
    metrics.note_claim(one.claim)
    metrics.note_first_token(one)
    metrics.note_end(one, finished())
    of_model = {"model_name": "m"}
    for name, expected in {
        "claims_total": 1,
        "takeovers_total": 0,
        "prompt_tokens_total": 10,
        "prefix_cache_queries_total": 10,
        "prefix_cache_hits_total": 4,
        "request_queue_time_seconds_sum": 0.25,
        "time_to_first_token_seconds_sum": 0.5,
        "request_prefill_time_seconds_sum": 0.25,
        "request_decode_time_seconds_sum": 2.0,
        "request_inference_time_seconds_sum": 2.25,
        "e2e_request_latency_seconds_sum": 2.5,
        "request_time_per_output_token_seconds_sum": 0.5,
        "request_generation_tokens_sum": 5,
    }.items():
        assert value(metrics, name, **of_model) == expected, name
    assert value(metrics, "request_success_total", **of_model, finished_reason="length") == 1
    assert value(metrics, "tenant_tokens_total", tenant="t", kind="output") == 5


def test_a_takeover_is_no_second_wait_in_the_queue() -> None:
    metrics = WorkerMetrics("m")
    metrics.note_claim(attempt(attempt=2).claim)
    assert value(metrics, "takeovers_total", model_name="m") == 1
    assert value(metrics, "request_queue_time_seconds_count", model_name="m") is None


def test_what_ends_before_its_first_token_has_no_decode_time() -> None:
    metrics = WorkerMetrics("m")
    metrics.note_end(attempt(first_token_ms=None), finished(0, has_begun=False))
    assert value(metrics, "request_decode_time_seconds_count", model_name="m") is None
    assert value(metrics, "e2e_request_latency_seconds_count", model_name="m") == 1


def test_what_an_encoder_reads_is_counted_at_its_end() -> None:
    metrics = WorkerMetrics("m")
    metrics.note_end(attempt(is_generation=False), finished(0, has_begun=False))
    assert value(metrics, "prompt_tokens_total", model_name="m") == 10


def test_counts_go_on_when_an_engine_begins_anew() -> None:
    metrics = WorkerMetrics("m")
    metrics.note_steps([StepOutput((), EngineStats(num_preemptions=3, num_blocks=8), 0.004)])
    metrics.note_engine_restart()
    metrics.note_steps([StepOutput((), EngineStats(num_preemptions=1, num_blocks=8), 0.004)])
    assert value(metrics, "num_preemptions_total", model_name="m") == 4
    assert value(metrics, "engine_restarts_total", model_name="m") == 1
    assert value(metrics, "step_seconds_bucket", model_name="m", le="0.005") == 2


def test_the_batch_is_empty_when_nothing_runs_whatever_the_last_step_said() -> None:
    metrics, num_running = WorkerMetrics("m"), [1]
    metrics.follow(lambda: num_running[0])
    stats = EngineStats(num_running=2, num_waiting=1, num_blocks=10, num_free_blocks=4)
    metrics.note_steps([StepOutput((), stats)])
    assert value(metrics, "num_requests_running", model_name="m") == 2
    assert value(metrics, "num_requests_waiting", model_name="m") == 1
    assert value(metrics, "kv_cache_usage_perc", model_name="m") == 0.6
    num_running[0] = 0  # cancelled: no step follows
    assert value(metrics, "num_requests_running", model_name="m") == 0
    assert value(metrics, "num_requests_waiting", model_name="m") == 0


def test_a_write_that_hangs_shows_as_lag() -> None:
    clock = Clock()
    metrics = WorkerMetrics("m", clock=clock)
    assert value(metrics, "journal_lag_seconds", model_name="m") == 0
    metrics.begin_write()
    clock.now += 3
    assert value(metrics, "journal_lag_seconds", model_name="m") == 3
    metrics.end_write()
    assert value(metrics, "journal_lag_seconds", model_name="m") == 0
    assert value(metrics, "journal_write_seconds_sum", model_name="m") == 3


def test_tenants_are_bounded() -> None:
    metrics = WorkerMetrics("m", TenantLabels(limit=1))
    for tenant in ("a", "b", "c"):
        metrics.note_end(attempt(tenant=tenant), finished())
    assert value(metrics, "tenant_tokens_total", tenant="a", kind="prompt") == 10
    assert value(metrics, "tenant_tokens_total", tenant="other", kind="prompt") == 20
