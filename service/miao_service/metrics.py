"""What a front counts, for Prometheus.

Where several processes share a port, each writes its numbers into files of one folder
(`prometheus_client`'s multi-process mode, which its import decides), and the process that
watches over them serves the sums.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    multiprocess,
)

from miao_queue.cards import ModelStatus
from miao_queue.telemetry import buckets

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

CALLS = Counter("miao_front_calls", "Calls that ended.", ("method", "code"), registry=REGISTRY)
CALL_SECONDS = Histogram(
    "miao_front_call_seconds",
    "How long calls took; streams, to their end.",
    ("method",),
    buckets=buckets.FIRST_TOKEN_SECONDS,
    registry=REGISTRY,
)
ACCEPTED = Counter(
    "miao_front_accepted", "Generations that were accepted.", ("model_name",), registry=REGISTRY
)
SUBMIT_SECONDS = Histogram(
    "miao_front_submit_seconds",
    "How long Redis took for an acceptance.",
    ("model_name",),
    buckets=buckets.STEP_SECONDS,
    registry=REGISTRY,
)
REFUSALS = Counter(
    "miao_admission_refusals", "Calls that were refused.", ("reason",), registry=REGISTRY
)
FIRST_EVENT_SECONDS = Histogram(
    "miao_front_time_to_first_token_seconds",
    "From the call to its first token, as it leaves here.",
    ("model_name",),
    buckets=buckets.FIRST_TOKEN_SECONDS,
    registry=REGISTRY,
)
EVENTS = Counter("miao_front_relayed_events", "Events sent on streams.", registry=REGISTRY)
STREAMS = Gauge(
    "miao_front_open_streams",
    "Streams that are open.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
RESUBMITTED = Counter(
    "miao_front_resubmissions",
    "Generations that Redis had lost, submitted again.",
    registry=REGISTRY,
)
OVERDUE = Counter(
    "miao_front_overdue", "Generations that had waited for too long, ended here.", registry=REGISTRY
)
AUDIT_DROPPED = Counter(
    "miao_front_audit_dropped", "Audit records that Redis did not take in time.", registry=REGISTRY
)
REDIS_UP = Gauge(
    "miao_front_redis_up",
    "Whether Redis answered at the last look.",
    multiprocess_mode="livemin",
    registry=REGISTRY,
)
SHARD_UP = Gauge(
    "miao_front_shard_up",
    "Of several Redis, whether each answered at the last look.",
    ("shard",),
    multiprocess_mode="livemin",
    registry=REGISTRY,
)
WORKERS = Gauge(
    "miao_model_workers",
    "Live workers of a model.",
    ("model_name",),
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)
WAITING = Gauge(
    "miao_queue_waiting",
    "Generations of a model that wait for a worker.",
    ("model_name",),
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)


def note_models(statuses: Mapping[str, ModelStatus]) -> None:
    """How many workers serve each model, and how many generations wait for it."""
    for name, status in statuses.items():
        WORKERS.labels(name).set(status.num_workers)
        WAITING.labels(name).set(status.num_queued)


def note_acceptance(model: str, seconds: float) -> None:
    """A generation was accepted, after so long in Redis."""
    ACCEPTED.labels(model).inc()
    SUBMIT_SECONDS.labels(model).observe(seconds)


class FirstToken:
    """Measures a call, from now on, up to its first events."""

    def __init__(self) -> None:
        self.model = ""
        self._began: float | None = time.perf_counter()

    def note_sent(self, num_events: int) -> None:
        """So many events of the journal were sent."""
        EVENTS.inc(num_events)
        if self._began is not None:
            FIRST_EVENT_SECONDS.labels(self.model).observe(time.perf_counter() - self._began)
            self._began = None


@contextlib.contextmanager
def shared_folder() -> Iterator[CollectorRegistry]:
    """Let processes started meanwhile count together; yields what has their sums."""
    before = os.environ.get(_FOLDER)
    with tempfile.TemporaryDirectory(prefix="miao-metrics-") as folder:
        os.environ[_FOLDER] = folder
        try:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]
            yield registry
        finally:
            if before is None:
                del os.environ[_FOLDER]
            else:
                os.environ[_FOLDER] = before


def forget_process(pid: int | None) -> None:
    """A process has ended: what it has open counts no longer, what it did still does."""
    if pid is not None and os.environ.get(_FOLDER):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
