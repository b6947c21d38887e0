"""A worker's state for those who watch the fleet."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from miao.v1.fleet_service_pb2 import FleetWorker
from miao_worker.metrics import WorkerMetrics
from miao_worker.settings import WorkerSettings

_RATE_SECONDS = 10.0
_RECENT_SECONDS = 60.0


class WorkerState:
    """Says what the worker is doing, whenever it is asked; twice a second is enough."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        start_ms: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._start_ms = start_ms
        self._clock = clock
        self._lock = threading.Lock()  # each Redis has a thread that asks
        self._said: deque[tuple[float, int]] = deque()  # tokens so far, at times

    def message(self, num_generations: int, *, is_draining: bool) -> FleetWorker:
        """The state now."""
        with self._lock:
            return self._message(num_generations, is_draining=is_draining)

    def _message(self, num_generations: int, *, is_draining: bool) -> FleetWorker:
        metrics, totals = self._metrics, self._metrics.totals
        state = FleetWorker(
            name=self._settings.name,
            model=self._settings.model_name,
            is_draining=is_draining,
            num_generations=num_generations,
            num_running=metrics.num_running if num_generations else 0,
            max_running=self._settings.engine.max_sequences,
            num_waiting=metrics.stats.num_waiting if num_generations else 0,
            cache_usage=metrics.cache_usage,
            prompt_tokens=totals.prompt_tokens,
            cached_prompt_tokens=totals.cached_tokens,
            output_tokens=totals.output_tokens,
            num_ended=totals.ended,
            num_takeovers=totals.takeovers,
            num_engine_restarts=totals.engine_restarts,
            output_tokens_per_second=self._rate(totals.output_tokens),
        )
        state.start_time.FromMilliseconds(self._start_ms)
        self._add_first_tokens(state)
        return state

    def _rate(self, num_tokens: int) -> float:
        now = self._clock()
        self._said.append((now, num_tokens))
        while now - self._said[0][0] > _RATE_SECONDS:
            self._said.popleft()
        began, before = self._said[0]
        return (num_tokens - before) / (now - began) if now > began else 0.0

    def _add_first_tokens(self, state: FleetWorker) -> None:
        horizon = self._clock() - _RECENT_SECONDS
        recent = sorted(ms for at, ms in list(self._metrics.recent_first_token_ms) if at > horizon)
        if recent:
            state.first_token_ms_p50 = _quantile(recent, 0.5)
            state.first_token_ms_p95 = _quantile(recent, 0.95)


def _quantile(values: Sequence[int], share: float) -> int:
    """Of sorted values: the least that so large a share does not exceed."""
    return values[min(len(values) - 1, int(share * len(values)))]
