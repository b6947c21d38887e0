"""What a worker counts: metrics for Prometheus, and the totals that its published state shows.

The names are vLLM's with `miao_` for `vllm:`, where it has the same; each generation is
counted once, by the worker that ends it. Nothing is counted for each token: a step costs
some microseconds, whatever its batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from miao.v1 import generation_pb2 as pb
from miao_queue.claims import Claim
from miao_queue.telemetry import buckets
from miao_queue.telemetry.histogram import BatchHistogram
from miao_queue.telemetry.tenants import TenantLabels
from miao_worker.attempt import AnyAttempt
from miao_worker.engine.types import EngineStats, StepOutput

_MODEL = ("model_name",)
_RECENT = 256  # first tokens whose times are kept for the state that is shown

_REASONS = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_CANCELLED: "abort",
    pb.FINISH_REASON_DEADLINE_EXCEEDED: "deadline",
    pb.FINISH_REASON_ERROR: "error",
}


@dataclass(slots=True)
class Totals:
    """Since the worker's start."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    ended: int = 0
    takeovers: int = 0
    engine_restarts: int = 0


class WorkerMetrics:
    """One worker's. Steps come from one thread; all else may come from several."""

    def __init__(
        self,
        model: str,
        tenants: TenantLabels | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`model` is the one that the engine is loaded with; adapters have names of their own."""
        self.registry = CollectorRegistry()
        self.totals = Totals()
        self.recent_first_token_ms: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._model = model
        self._tenants = tenants or TenantLabels()
        self._clock = clock
        self._stats = EngineStats()
        self._lock = threading.Lock()  # around what prometheus_client does not guard
        self._writing_since: dict[int, float] = {}  # by thread
        ProcessCollector(registry=self.registry)
        self._make_engine_metrics()
        self._make_generation_metrics()
        self._make_queue_metrics()

    def _make_engine_metrics(self) -> None:
        counter, gauge = self._counter, self._gauge
        self._running = gauge("num_requests_running", "Sequences in the batch.")
        self._waiting = gauge("num_requests_waiting", "Sequences in the engine, not in the batch.")
        self._cache = gauge("kv_cache_usage_perc", "Used share of the KV cache; 1 is all of it.")
        self._preemptions = counter("num_preemptions", "Sequences that gave their blocks back.")
        self._proposed = counter("spec_decode_num_draft_tokens", "Proposed tokens.")
        self._accepted = counter("spec_decode_num_accepted_tokens", "Proposed and right.")
        self._restarts = counter("engine_restarts", "Engines started in place of one that died.")
        self._steps = BatchHistogram(
            *("miao_step_seconds", "How long the engine's steps take.", "model_name"),
            *(buckets.STEP_SECONDS, self.registry),
        )
        self._intervals = BatchHistogram(
            "miao_inter_token_latency_seconds",
            "From one output of a sequence to its next, where they come to the worker.",
            *("model_name", buckets.TOKEN_SECONDS, self.registry),
        )

    def _make_generation_metrics(self) -> None:
        counter, seconds = self._counter, buckets.REQUEST_SECONDS
        self._prompt_tokens = counter("prompt_tokens", "Tokens of prompts, cached ones too.")
        self._output_tokens = counter("generation_tokens", "Tokens that the engine brought.")
        self._queries = counter("prefix_cache_queries", "Prompt tokens looked for in the cache.")
        self._hits = counter("prefix_cache_hits", "Prompt tokens that were found there.")
        self._ended = counter("request_success", "Generations that ended.", "finished_reason")
        self._tenant_tokens = counter(
            "tenant_tokens", "Tokens of ended generations.", "tenant", "kind", by_model=False
        )
        first = buckets.FIRST_TOKEN_SECONDS
        self._first_token = self._histogram(
            "time_to_first_token_seconds", "From acceptance to the first token.", first
        )
        self._total = self._histogram("e2e_request_latency_seconds", "Acceptance to end.", seconds)
        self._inference = self._histogram(
            "request_inference_time_seconds", "Claim to end.", seconds
        )
        self._prefill = self._histogram("request_prefill_time_seconds", "Claim to first.", seconds)
        self._decode = self._histogram(
            "request_decode_time_seconds", "First token to end.", seconds
        )
        self._per_token = self._histogram(
            "request_time_per_output_token_seconds",
            "A generation's decode time over its tokens but the first.",
            buckets.TOKEN_SECONDS,
        )
        tokens = buckets.REQUEST_TOKENS
        self._prompt_size = self._histogram("request_prompt_tokens", "Of a generation.", tokens)
        self._output_size = self._histogram("request_generation_tokens", "Of a generation.", tokens)

    def _make_queue_metrics(self) -> None:
        counter = self._counter
        self._queued = self._histogram(
            "request_queue_time_seconds", "Acceptance to the first claim.", buckets.REQUEST_SECONDS
        )
        self._claims = counter("claims", "Generations that this worker claimed.")
        self._takeovers = counter("takeovers", "Claims of what another attempt had begun.")
        self._fenced = counter("fenced_writes", "Writes refused: another has the claim.")
        self._rewritten = counter(
            "journal_rewrites", "Journals that Redis had lost in part or whole."
        )
        self._reaped = counter("reaped_claims", "Claims of lost workers, given back to the queue.")
        self._redis_errors = counter("redis_errors", "Writes that Redis did not take at once.")
        self._writes = BatchHistogram(
            "miao_journal_write_seconds",
            "From a step's coming to its being in the journals, for a batch.",
            *("model_name", buckets.STEP_SECONDS, self.registry),
        )
        lag = self._gauge("journal_lag_seconds", "For how long the write under way has waited.")
        lag.set_function(self._lag)

    def follow(self, num_running: Callable[[], int]) -> None:
        """Take the batch's fill from here whenever it is asked for."""
        self._running.set_function(lambda: self.num_running if num_running() else 0)
        self._waiting.set_function(lambda: self._stats.num_waiting if num_running() else 0)
        self._cache.set_function(lambda: self.cache_usage)

    @property
    def stats(self) -> EngineStats:
        """The engine's, after its last step."""
        return self._stats

    @property
    def num_running(self) -> int:
        return self._stats.num_running

    @property
    def cache_usage(self) -> float:
        """From 0 to 1."""
        stats = self._stats
        return 1 - stats.num_free_blocks / stats.num_blocks if stats.num_blocks else 0.0

    # From the thread that claims

    def note_claim(self, claim: Claim) -> None:
        """A generation has come here."""
        record = claim.record
        self._claims.labels(record.model).inc()
        if record.attempt == 1:
            seconds = max(0, claim.now_ms - record.accept_ms) / 1000
            self._queued.labels(record.model).observe(seconds)
        else:
            with self._lock:
                self.totals.takeovers += 1
            self._takeovers.labels(record.model).inc()

    def note_reaped(self) -> None:
        """A lost worker's claim was given back."""
        self._reaped.labels(self._model).inc()

    # From the runner

    def note_steps(self, steps: Sequence[StepOutput]) -> None:
        """The engine has stepped."""
        for step in steps:
            self._steps.observe(self._model, step.seconds)
        if steps:
            self._note_stats(steps[-1].stats)

    def begin_batch(self) -> Batch:
        """What steps have brought is about to be looked through."""
        return Batch(self, self._clock())

    def note_first_token(self, attempt: AnyAttempt) -> None:
        """A generation has said its first; told once, by the attempt that said it."""
        record, first_ms = attempt.claim.record, attempt.first_token_ms
        if first_ms is None:
            return
        ms = max(0, first_ms - record.accept_ms)
        with self._lock:
            self.recent_first_token_ms.append((self._clock(), ms))
            self.totals.prompt_tokens += record.accepted.num_prompt_tokens
            self.totals.cached_tokens += attempt.cached_prompt_tokens
        self._first_token.labels(record.model).observe(ms / 1000)
        num_prompt = record.accepted.num_prompt_tokens
        self._prompt_tokens.labels(record.model).inc(num_prompt)
        self._queries.labels(record.model).inc(num_prompt)
        self._hits.labels(record.model).inc(attempt.cached_prompt_tokens)

    def note_end(self, attempt: AnyAttempt, finished: pb.Finished) -> None:
        """A generation's end is written."""
        record, usage = attempt.claim.record, finished.usage
        model, timings = record.model, finished.timings
        with self._lock:
            self.totals.prompt_tokens += 0 if record.is_generation else usage.prompt_tokens
            self.totals.ended += 1
        if not record.is_generation:
            self._prompt_tokens.labels(model).inc(usage.prompt_tokens)
        self._ended.labels(model, _REASONS.get(finished.reason, "other")).inc()
        tenant = self._tenants.of(record.tenant)
        self._tenant_tokens.labels(tenant, "prompt").inc(usage.prompt_tokens)
        self._tenant_tokens.labels(tenant, "cached").inc(usage.cached_prompt_tokens)
        self._tenant_tokens.labels(tenant, "output").inc(usage.output_tokens)
        self._prompt_size.labels(model).observe(usage.prompt_tokens)
        self._output_size.labels(model).observe(usage.output_tokens)
        total, queued = (timings.total.ToMilliseconds(), timings.queued.ToMilliseconds())
        self._total.labels(model).observe(total / 1000)
        self._inference.labels(model).observe((total - queued) / 1000)
        if timings.HasField("first_token"):
            first = timings.first_token.ToMilliseconds()
            self._prefill.labels(model).observe(max(0, first - queued) / 1000)
            self._decode.labels(model).observe((total - first) / 1000)
            if usage.output_tokens > 1:
                per_token = (total - first) / 1000 / (usage.output_tokens - 1)
                self._per_token.labels(model).observe(per_token)

    def note_fenced(self) -> None:
        """A write was refused, since another has the claim."""
        self._fenced.labels(self._model).inc()

    def note_rewrite(self) -> None:
        """Redis had lost of a journal what this worker wrote again."""
        self._rewritten.labels(self._model).inc()

    def note_redis_error(self) -> None:
        """Redis did not take a write."""
        self._redis_errors.labels(self._model).inc()

    def note_engine_restart(self) -> None:
        """An engine was started in place of one that died."""
        self.totals.engine_restarts += 1
        self._stats = EngineStats(num_blocks=self._stats.num_blocks)
        self._restarts.labels(self._model).inc()

    def begin_write(self) -> None:
        """A batch is about to be written, by this thread."""
        self._writing_since[threading.get_ident()] = self._clock()

    def end_write(self) -> None:
        """The batch is in the journals."""
        since = self._writing_since.pop(threading.get_ident(), None)
        if since is not None:
            with self._lock:
                self._writes.observe(self._model, self._clock() - since)

    def _lag(self) -> float:
        now = self._clock()
        return max((now - since for since in list(self._writing_since.values())), default=0.0)

    def note_tokens(self, model: str, num_tokens: int, interval: float | None, count: int) -> None:
        """So many generations got tokens, so many seconds after their last; None: their first."""
        self.totals.output_tokens += num_tokens
        self._output_tokens.labels(model).inc(num_tokens)
        if interval is not None:
            self._intervals.observe(model, interval, count)

    def _note_stats(self, stats: EngineStats) -> None:
        before, self._stats = self._stats, stats
        for counter, old, new in (
            (self._preemptions, before.num_preemptions, stats.num_preemptions),
            (self._proposed, before.num_proposed_tokens, stats.num_proposed_tokens),
            (self._accepted, before.num_accepted_tokens, stats.num_accepted_tokens),
        ):
            if new > old:
                counter.labels(self._model).inc(new - old)

    def _counter(self, name: str, text: str, *labels: str, by_model: bool = True) -> Counter:
        names = (*_MODEL[:by_model], *labels)
        counter = Counter(f"miao_{name}", text, names, registry=self.registry)
        if names == _MODEL:
            counter.labels(self._model)  # so that it is there, and 0, before it first counts
        return counter

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"miao_{name}", text, _MODEL, registry=self.registry).labels(self._model)

    def _histogram(self, name: str, text: str, bounds: Sequence[float]) -> Histogram:
        return Histogram(f"miao_{name}", text, _MODEL, buckets=bounds, registry=self.registry)


class Batch:
    """One look through what steps have brought."""

    def __init__(self, metrics: WorkerMetrics, now: float) -> None:
        self._metrics = metrics
        self._now = now
        # By model and time of the tokens before: how many generations, and their tokens.
        self._found: dict[tuple[str, float | None], list[int]] = {}

    def add(self, attempt: AnyAttempt, num_tokens: int) -> None:
        """A generation got so many tokens."""
        key = attempt.claim.record.model, attempt.last_tokens_at
        attempt.last_tokens_at = self._now
        found = self._found.get(key)
        if found is None:
            self._found[key] = [1, num_tokens]
        else:
            found[0] += 1
            found[1] += num_tokens

    def end(self) -> None:
        """Count it all."""
        with self._metrics._lock:
            for (model, before), (count, num_tokens) in self._found.items():
                interval = None if before is None else self._now - before
                self._metrics.note_tokens(model, num_tokens, interval, count)
