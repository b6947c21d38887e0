"""Between the engine and the journals: publishes every step, ends generations.

One thread runs `run`; the other methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from redis.exceptions import RedisError
from tokenizers import Tokenizer

from miao.v1 import generation_pb2 as pb
from miao_queue import records
from miao_queue.claims import Append, Claim, ClaimStore, Crashes, WriteCode
from miao_queue.telemetry import logs
from miao_worker.attempt import FAILED_PRECONDITION, INTERNAL, AnyAttempt
from miao_worker.batch_hub import RunnerBatch, restart
from miao_worker.clock import RedisClock
from miao_worker.engine import shares
from miao_worker.engine_batch import Brought, NoteCrashes, failure_message
from miao_worker.engine_process import EngineDiedError
from miao_worker.execution import Execution
from miao_worker.explanation_execution import ExplanationExecution
from miao_worker.metrics import WorkerMetrics
from miao_worker.pace import Pace
from miao_worker.served_models import ServedModels
from miao_worker.settings import WorkerSettings
from miao_worker.understanding_execution import UnderstandingExecution

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")

# For how long ends are remembered while Redis lives: `appendfsync everysec` may lose two
# seconds of them, a replica that takes over somewhat more.
_REMEMBER_SECONDS = 10.0
_CLOCKS_DIFFER_MS = 200  # ours and Redis's, at most
_POLL_SECONDS = 0.05  # how late a command or an ended deadline is seen while nothing steps
_MAX_BACKOFF_SECONDS = 1.0
_BY_ITSELF = (pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH)


class StoppedError(Exception):
    """The runner was stopped while it waited for Redis."""


@dataclass(frozen=True, slots=True)
class _Ending:
    """What the end of a generation was written with, to write it again."""

    execution: AnyAttempt
    message: pb.Finished
    event: bytes
    finished: bytes
    written_at: float  # monotonic
    kept_until_ms: int  # then Redis forgets it, as it should


class GenerationRunner:
    """Runs claimed generations on an engine until each has its terminal event.

    `on_ended` is told of those that ended here or were lost to another worker, when what a step
    ended is written; from the runner's thread, so it must not block.
    """

    def __init__(
        self,
        batch: Callable[[NoteCrashes], RunnerBatch],
        claims: ClaimStore,
        clock: RedisClock,
        tokenizer: Tokenizer,
        settings: WorkerSettings,
        served: ServedModels,
        metrics: WorkerMetrics,
        on_ended: Callable[[Sequence[AnyAttempt]], None],
    ) -> None:
        """`batch`: makes that in which they run, which tells of crashes."""
        self._batch = batch(self._note_crashes)
        self.all_runners: Sequence[GenerationRunner] = [self]  # that share the batch
        self._claims = claims
        self._clock = clock
        self._tokenizer = tokenizer
        self._settings = settings
        self._served = served
        self._metrics = metrics
        self._on_ended = on_ended
        self.pace = Pace()
        self._running: dict[str, AnyAttempt] = {}  # by owner
        self._gone: list[AnyAttempt] = []  # of which `on_ended` is to be told
        self._endings: deque[_Ending] = deque()  # the oldest first
        self._inbox: deque[Callable[[], None]] = deque()  # what other threads ask of this one
        self._stopping = threading.Event()
        self._token_text = lru_cache(65536)(lambda token_id: str(tokenizer.decode([token_id])))

    @property
    def num_running(self) -> int:
        """Generations."""
        return len(self._running)

    @property
    def num_sequences(self) -> int:
        """Answers of the generations that run."""
        return sum(len(execution.answers) for execution in list(self._running.values()))

    @property
    def num_free(self) -> int:
        """Rows of the batch that nobody has; below 0 where some wait in the engine."""
        used = sum(runner.num_sequences for runner in list(self.all_runners))
        return self._settings.engine.max_sequences - used

    @property
    def is_full(self) -> bool:
        """Whether more would have to wait."""
        return self.num_free <= 0

    @property
    def barred(self) -> list[str] | None:
        """The tenants for whom there is no room; None where there is none for anybody.

        All that run must be able to run together.
        """
        if self._batch.is_isolating:
            return None
        held = [
            (record.tenant, record.weight)
            for runner in list(self.all_runners)
            for execution in list(runner._running.values())
            for record in [execution.claim.record] * len(execution.answers)
        ]
        return shares.barred(held, self._settings.engine.max_sequences)

    def claims_held(self) -> list[Claim]:
        """The claims to be renewed, or to be given back when the runner has stopped."""
        return [execution.claim for execution in list(self._running.values())]

    def add(self, claim: Claim) -> None:
        """Run a generation, or end it where it has no time left or is at fault."""
        execution = self._attempt(claim)
        self._check_claim(execution)
        self._running[claim.owner] = execution
        if execution.end is None:
            self._batch.add(execution)

    def cancel(self, generation_id: str) -> None:
        """Take a generation out of the batch and end it."""
        self._inbox.append(lambda: self._cancel(generation_id))

    def drop(self, owner: str) -> None:
        """Forget a generation whose claim is lost."""
        self._inbox.append(lambda: self._drop(owner))

    def restore(self, owner: str) -> None:
        """Write a generation again that Redis has forgotten."""
        self._inbox.append(lambda: self._restore(owner))

    def forget_endings(self) -> None:
        """Redis lives on: what ended a while ago is safe."""
        self._inbox.append(self._forget_endings)

    def restore_endings(self) -> None:
        """Write the last ends again: a Redis that was started anew may lack them."""
        self._inbox.append(self._restore_endings)

    def stop(self) -> None:
        """Make `run` return; what still runs keeps its claim."""
        self._stopping.set()

    def run(self) -> None:
        """Publish steps until stopped."""
        with contextlib.suppress(StoppedError):
            while not self._stopping.is_set():
                try:
                    self._publish(self._batch.receive(_POLL_SECONDS))
                    self._tend()
                except EngineDiedError:
                    restart(self._batch, self._metrics)
                self._tell_of_ends()
        self._tell_of_ends()
        for execution in self._running.values():
            execution.trace.note_lost(self._clock.now_ms(), "given back")

    def _publish(self, brought: Mapping[AnyAttempt, Sequence[Brought]]) -> None:
        """Append all that came, in one call for the whole batch."""
        writers: list[AnyAttempt] = []
        appends: list[Append] = []
        now_ms = self._clock.now_ms()
        counted = self._metrics.begin_batch()
        for execution, outputs in brought.items():
            owner = execution.claim.owner
            if owner not in self._running:  # lost in the moment when it was added
                self._batch.remove(execution)
                continue
            has_begun = execution.first_token_ms is not None
            is_first_here = execution.last_tokens_at is None
            entries = execution.advance(outputs, now_ms)
            count = sum(len(output.token_ids) for _, output in outputs)
            counted.add(execution, count)
            if entries and not has_begun:
                self._metrics.note_first_token(execution)
                count += execution.claim.record.accepted.num_prompt_tokens
            self.pace.note_tokens(count)
            if is_first_here:
                execution.trace.note_first(now_ms, execution.cached_prompt_tokens)
            if execution.end is not None:
                self._batch.remove(execution)
            elif len(execution.answers) > 1:
                self._batch.retire(execution)
            generation_id = execution.generation_id
            for entry in entries:
                writers.append(execution)
                appends.append(Append(generation_id, owner, entry))
        self._batch.applied()
        self._append(writers, appends)
        counted.end()

    def _append(self, writers: Sequence[AnyAttempt], appends: Sequence[Append]) -> None:
        """Write, and obey what Redis says; `writers` are those whose appends these are."""
        if not appends:
            return
        self._metrics.begin_write()
        results = self._insist(lambda: self._claims.append(appends))
        self._metrics.end_write()
        for place, result in results.items():
            execution = writers[place]
            match result.code:
                case WriteCode.FENCED:
                    self._drop(execution.claim.owner)
                case WriteCode.GAP:
                    self._resend(execution, result.tokens)
                case WriteCode.UNKNOWN:
                    self._restore(execution.claim.owner)
                case WriteCode.CANCEL if execution.end is None:
                    self._cancel(execution.generation_id)
                case _:
                    pass

    def _resend(self, execution: AnyAttempt, tokens: int) -> None:
        """Write again what Redis has lost, from memory."""
        self._metrics.note_rewrite()
        for entry in execution.entries_from(tokens):
            append = Append(execution.generation_id, execution.claim.owner, entry)
            result = self._insist(lambda append=append: self._claims.append([append]))  # type: ignore[misc]
            if 0 in result and result[0].code is WriteCode.FENCED:
                self._drop(execution.claim.owner)
                return

    def _restore(self, owner: str) -> None:
        execution = self._running.get(owner)
        if execution is not None:
            self._write_again(execution)

    def _write_again(self, execution: AnyAttempt) -> None:
        ids = logs.ids(execution.claim.record)
        _log.warning("Redis has lost a generation; writing it again", extra=ids)
        self._metrics.note_rewrite()
        self._insist(lambda: self._claims.restore(execution.claim, execution.entries))

    def _tend(self) -> None:
        """Do what others have asked for, end what is over."""
        while self._inbox:
            self._inbox.popleft()()
        now_ms = self._clock.now_ms()
        for execution in list(self._running.values()):
            if execution.end is None and now_ms >= execution.claim.record.deadline_ms:
                self._end(execution, pb.FINISH_REASON_DEADLINE_EXCEEDED)
            if execution.end is not None:
                self._finish(execution)

    def _tell_of_ends(self) -> None:
        """What follows from an end takes a while, and must not keep callers from theirs."""
        gone, self._gone = self._gone, []
        if gone:
            self._on_ended(gone)

    def _attempt(self, claim: Claim) -> AnyAttempt:
        if claim.job.HasField("understanding"):
            return UnderstandingExecution(claim)
        adapter = self._served.adapter_of(claim.record.model)
        if claim.job.HasField("explanation"):
            return ExplanationExecution(claim, self._tokenizer, adapter)
        return Execution(claim, self._tokenizer, self._token_text, adapter)

    def _check_claim(self, execution: AnyAttempt) -> None:
        record, now_ms = execution.claim.record, execution.claim.now_ms
        late = now_ms >= record.deadline_ms
        waited_too_long = record.attempt == 1 and now_ms >= record.queue_deadline_ms
        is_at_fault = record.crashed_alone and record.crashes >= self._settings.max_crashes
        if execution.end is not None:
            return  # its journal holds the last token already
        fault = self._served.fault(record)
        if late or waited_too_long:
            self._end(execution, pb.FINISH_REASON_DEADLINE_EXCEEDED)
        elif fault is not None:
            execution.fail(FAILED_PRECONDITION, fault)
        elif is_at_fault:
            execution.fail(INTERNAL, failure_message(execution.crashes))

    def _end(self, execution: AnyAttempt, reason: pb.FinishReason) -> None:
        execution.end_early(reason)
        self._batch.remove(execution)

    def _cancel(self, generation_id: str) -> None:
        for execution in list(self._running.values()):
            if execution.generation_id == generation_id and execution.end is None:
                self._end(execution, pb.FINISH_REASON_CANCELLED)

    def _drop(self, owner: str) -> None:
        execution = self._running.pop(owner, None)
        if execution is not None:
            self._metrics.note_fenced()
            ids = logs.ids(execution.claim.record)
            _log.warning("another worker has taken the generation over", extra=ids)
            execution.trace.note_lost(self._clock.now_ms(), "taken over")
            self._batch.remove(execution)
            self._gone.append(execution)

    def _finish(self, execution: AnyAttempt) -> None:
        """Write the terminal event."""
        ending = self._ending(execution)
        execution.trace.note_last(self._clock.now_ms())
        if self._write_end(ending):
            execution.trace.note_end(self._clock.now_ms(), ending.message)
            self._metrics.note_end(execution, ending.message)
            if ending.message.reason in _BY_ITSELF:
                self.pace.note_end(execution.num_output_tokens, _most_output(execution.claim))
            _log.info("ended", extra=_of_end(execution, ending.message))
            self._endings.append(ending)
            del self._running[execution.claim.owner]
            self._gone.append(execution)
        else:
            self._drop(execution.claim.owner)

    def _ending(self, execution: AnyAttempt) -> _Ending:
        claim, end = execution.claim, execution.end
        assert end is not None
        finished = records.finished_message(
            claim.record,
            end.reason,
            self._clock.now_ms(),
            output_tokens=execution.num_output_tokens,
            cached_prompt_tokens=execution.cached_prompt_tokens,
            first_token_ms=execution.first_token_ms,
        )
        finished.MergeFrom(end)
        event = execution.terminal_event(finished)
        return _Ending(
            execution,
            finished,
            event,
            finished.SerializeToString(),
            time.monotonic(),
            self._clock.now_ms() + 1000 * claim.record.retention_seconds,
        )

    def _write_end(self, ending: _Ending) -> bool:
        """Write until the journal is whole and closed; False where the claim is lost."""
        execution = ending.execution
        claim = execution.claim
        while True:
            result = self._insist(
                lambda: self._claims.finish(
                    claim,
                    execution.num_tokens,
                    ending.event,
                    ending.finished,
                    claim.record.retention_seconds,
                    records.usage_text(ending.message, has_run=True),
                )
            )
            match result.code:
                case WriteCode.FENCED:
                    return False
                case WriteCode.GAP:
                    self._resend(execution, result.tokens)
                case WriteCode.UNKNOWN:
                    self._write_again(execution)
                case _:
                    return True

    def _forget_endings(self) -> None:
        horizon = time.monotonic() - _REMEMBER_SECONDS
        while self._endings and self._endings[0].written_at < horizon:
            self._endings.popleft()

    def _restore_endings(self) -> None:
        # What Redis has forgotten in its time is not written, and not put on the bill, again.
        now_ms = self._clock.now_ms() + _CLOCKS_DIFFER_MS
        for ending in self._endings:
            if now_ms < ending.kept_until_ms:
                self._write_end(ending)

    def _note_crashes(self, crashes: Sequence[tuple[Claim, Crashes]]) -> None:
        if crashes:
            self._insist(lambda: self._claims.note_crashes(crashes))

    def _insist(self, call: Callable[[], _Result]) -> _Result:
        """Call until Redis answers. Every write is the same twice as once."""
        backoff = 0.02
        while True:
            try:
                return call()
            except RedisError as error:
                self._metrics.note_redis_error()
                _log.warning("Redis does not take a write (%s); trying again", type(error).__name__)
            if self._stopping.wait(backoff):
                raise StoppedError
            backoff = min(backoff * 2, _MAX_BACKOFF_SECONDS)


def _of_end(execution: AnyAttempt, finished: pb.Finished) -> dict[str, Any]:
    """What the log says of an end."""
    usage, timings = finished.usage, finished.timings
    return {
        **logs.ids(execution.claim.record),
        "reason": pb.FinishReason.Name(finished.reason).removeprefix("FINISH_REASON_").lower(),
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_prompt_tokens,
        "output_tokens": usage.output_tokens,
        "queued_ms": timings.queued.ToMilliseconds(),
        "first_token_ms": timings.first_token.ToMilliseconds(),
        "total_ms": timings.total.ToMilliseconds(),
    }


def _most_output(claim: Claim) -> int:
    """Tokens that all answers together may say."""
    return claim.job.max_tokens * max(1, claim.job.num_answers)
