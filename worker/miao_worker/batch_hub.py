"""One engine's batch for the runners of several Redis, of which each may be stuck by itself.

A thread of its own takes what the engine brings and lays it into the lane of the runner whose
generation it is. A runner applies what lies there, then writes it; while its Redis does not
take the write, its lane fills, and the others go on.

    engine ──► hub ──┬──► lane ──► runner ──► Redis a
                     └──► lane ──► runner ──► Redis b

What enters the engine again, after a death of it or a time outside, is computed from the tokens
that its runner has applied. So first its runner finishes applying, and what then still lies in
the lane is dropped: the engine says it again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from miao_queue.claims import Claim, Crashes
from miao_worker.attempt import AnyAttempt
from miao_worker.engine_batch import Brought, EngineBatch, NoteCrashes
from miao_worker.engine_process import EngineDiedError, EngineProcess
from miao_worker.metrics import WorkerMetrics

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.05


class RunnerBatch(Protocol):
    """What a runner needs of the batch: the whole of it, or a lane."""

    @property
    def is_isolating(self) -> bool: ...

    def add(self, execution: AnyAttempt) -> None: ...

    def remove(self, execution: AnyAttempt) -> None: ...

    def retire(self, execution: AnyAttempt) -> None: ...

    def receive(self, timeout_seconds: float) -> dict[AnyAttempt, list[Brought]]: ...

    def applied(self) -> None: ...

    def restart(self) -> None: ...


class BatchHub:
    """Runs the batch; `lane` gives each runner its part."""

    def __init__(self, engine: EngineProcess, max_crashes: int, metrics: WorkerMetrics) -> None:
        self.batch = EngineBatch(engine, max_crashes, self._note_crashes, self._settle)
        self.is_stopping = threading.Event()
        self.lanes: dict[str, BatchLane] = {}  # by owner
        self._metrics = metrics

    def lane(self, note_crashes: NoteCrashes) -> BatchLane:
        """A lane for one runner, which also writes down the crashes of its generations."""
        return BatchLane(self, note_crashes)

    def run(self) -> None:
        """Bring what comes until stopped. Raises ModelLoadError if the engine cannot restart."""
        while not self.is_stopping.is_set():
            self.step()

    def step(self) -> None:
        """Bring what comes next, or start another engine."""
        try:
            brought = self.batch.receive(_POLL_SECONDS)
        except EngineDiedError:
            restart(self.batch, self._metrics)
            return
        for execution, outputs in brought.items():
            lane = self.lanes.get(execution.claim.owner)
            if lane is not None:
                lane.put(execution, outputs)

    def stop(self) -> None:
        """Make `run` return."""
        self.is_stopping.set()

    def _note_crashes(self, crashes: Sequence[tuple[Claim, Crashes]]) -> None:
        """Let each runner write its own: none waits here for the Redis of another."""
        for claim, known in crashes:
            lane = self.lanes.get(claim.owner)
            if lane is not None:
                lane.note((claim, known))

    def _settle(self, execution: AnyAttempt) -> None:
        lane = self.lanes.get(execution.claim.owner)
        if lane is not None:
            lane.settle(execution)


class BatchLane:
    """What the engine brings to the generations of one runner."""

    def __init__(self, hub: BatchHub, note_crashes: NoteCrashes) -> None:
        self._hub = hub
        self._note_crashes = note_crashes
        self._changed = threading.Condition()
        self._brought: dict[AnyAttempt, list[Brought]] = {}
        self._notes: deque[tuple[Claim, Crashes]] = deque()
        self._is_applying = False
        self._deferred: list[Callable[[], None]] = []

    @property
    def is_isolating(self) -> bool:
        """Whether a suspect runs alone, of whatever runner."""
        return self._hub.batch.is_isolating

    # From the hub

    def put(self, execution: AnyAttempt, outputs: Sequence[Brought]) -> None:
        """Lay outputs there."""
        with self._changed:
            self._brought.setdefault(execution, []).extend(outputs)
            self._changed.notify_all()

    def note(self, crashes: tuple[Claim, Crashes]) -> None:
        """Let the runner write that down."""
        with self._changed:
            self._notes.append(crashes)
            self._changed.notify_all()

    def settle(self, execution: AnyAttempt) -> None:
        """Wait until what was taken is applied, and drop the rest."""
        with self._changed:
            while self._is_applying and not self._hub.is_stopping.is_set():
                self._changed.wait(_POLL_SECONDS)
            self._brought.pop(execution, None)

    # From the runner, and `add` from whoever claims

    def add(self, execution: AnyAttempt) -> None:
        """Run a generation."""
        self._hub.lanes[execution.claim.owner] = self
        self._hub.batch.add(execution)

    def remove(self, execution: AnyAttempt) -> None:
        """Run it no longer."""
        self._when_applied(lambda: self._remove(execution))

    def retire(self, execution: AnyAttempt) -> None:
        """Run its answers no longer that have ended."""
        self._when_applied(lambda: self._hub.batch.retire(execution))

    def receive(self, timeout_seconds: float) -> dict[AnyAttempt, list[Brought]]:
        """What has come since; `applied` must follow before anything that may block."""
        with self._changed:
            if not (self._brought or self._notes):
                self._changed.wait(timeout_seconds)
            notes = [self._notes.popleft() for _ in range(len(self._notes))]
        if notes:
            self._note_crashes(notes)
        with self._changed:
            brought, self._brought = self._brought, {}
            self._is_applying = True
        return brought

    def applied(self) -> None:
        """All that was received has become part of its generations."""
        with self._changed:
            self._is_applying = False
            self._changed.notify_all()
        deferred, self._deferred = self._deferred, []
        for work in deferred:
            work()

    def restart(self) -> None:
        """Never: the hub does."""
        raise AssertionError

    def _when_applied(self, work: Callable[[], None]) -> None:
        # The batch's own lock is held by who waits for us to have applied.
        if self._is_applying:
            self._deferred.append(work)
        else:
            work()

    def _remove(self, execution: AnyAttempt) -> None:
        self._hub.batch.remove(execution)
        self._hub.lanes.pop(execution.claim.owner, None)
        with self._changed:
            self._brought.pop(execution, None)


def restart(batch: RunnerBatch | EngineBatch, metrics: WorkerMetrics) -> None:
    """Replace a dead engine. Raises ModelLoadError."""
    _log.error("the engine has ended or hangs; starting another")
    started = time.monotonic()
    batch.restart()
    metrics.note_engine_restart()
    _log.info("another engine runs after %.2f s", time.monotonic() - started)
