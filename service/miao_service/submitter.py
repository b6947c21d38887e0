"""Submitting generations: what the queue answers, and what that means for a caller."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable

from redis.exceptions import RedisError

from miao.v1 import generation_pb2 as pb
from miao_queue import records
from miao_queue.durability import NotDurableError
from miao_queue.records import Submission, SubmitOutcome
from miao_queue.store import Admission
from miao_queue.telemetry import traces
from miao_service import metrics
from miao_service.errors import (
    BacklogFullError,
    GenerationLostError,
    ModelChangedError,
    NoWorkerError,
    OutdatedFrontError,
    QueueUnavailableError,
    RequestConflictError,
    UnsafeAcceptanceError,
)
from miao_service.limit_refusals import limit_error
from miao_service.places import Place
from miao_service.policies import PolicyFile
from miao_service.settings import ServiceSettings

logger = logging.getLogger(__name__)

_PASSING = (QueueUnavailableError, UnsafeAcceptanceError, OutdatedFrontError)
_RETRY_SECONDS = 0.2


class Submitter:
    """Submits and takes back generations for streams that may end at any time."""

    def __init__(
        self,
        settings: ServiceSettings,
        on_model_changed: Callable[[], Awaitable[None]],
        policies: PolicyFile,
    ) -> None:
        """`on_model_changed`: looks at the models again, before the caller does."""
        self._policies = policies
        self._on_model_changed = on_model_changed
        self._admission = Admission(
            backlog_limit=settings.backlog_limit,
            require_worker=not settings.queue_without_worker,
            predict=settings.predict_wait,
            within_seconds=settings.redis_timeout_seconds / 2,  # the rest is for the answer
        )
        # What was accepted once is not refused for a limit that came later.
        self._readmission = dataclasses.replace(
            self._admission,
            backlog_limit=2**31,
            require_worker=False,
            require_vocabulary=False,
            enforce_limits=False,
        )
        self._redis_timeout = settings.redis_timeout_seconds
        self._outage_seconds = settings.follow_outage_seconds

    async def submit(self, submission: Submission, place: Place) -> pb.Accepted:
        """Submit, and return what the stream begins with; a refusal has written nothing."""
        return await self._submit(submission, place, self._admission)

    async def submit_again(self, submission: Submission, place: Place, begun: float) -> pb.Accepted:
        """Submit what Redis has lost after it was accepted, as soon as Redis takes it.

        Its time goes on from when it `begun`, by the monotonic clock.
        """
        metrics.RESUBMITTED.inc()
        deadline = time.monotonic() + self._outage_seconds
        while True:
            left_ms = submission.timeout_ms - int(1000 * (time.monotonic() - begun))
            try:
                again = _limited(submission, max(1, left_ms))
                return await self._submit(again, place, self._readmission)
            except RequestConflictError as error:
                raise GenerationLostError from error  # the id has become another's
            except (*_PASSING, RedisError, OSError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise QueueUnavailableError from error
                await asyncio.sleep(_RETRY_SECONDS)

    async def cancel(
        self, submission: Submission, place: Place, submitting: asyncio.Future[pb.Accepted]
    ) -> None:
        """End a generation that nobody waits for, once its submission is through."""
        try:
            await submitting
        except Exception:
            return  # refused: there is nothing to cancel
        try:
            async with asyncio.timeout(self._redis_timeout):
                await place.store.cancel(submission.generation_id, submission.tenant)
        except (RedisError, OSError, TimeoutError) as error:
            name = type(error).__name__
            logger.warning("could not cancel: %s", name, extra=_ids(submission))

    async def _submit(
        self, submission: Submission, place: Place, admission: Admission
    ) -> pb.Accepted:
        limits = self._policies.policies.limits(submission.tenant, submission.model)
        admission = dataclasses.replace(admission, limits=limits)
        async with asyncio.timeout(self._redis_timeout):
            began = time.perf_counter()
            about = {"gen_ai.request.model": submission.model, "miao.tenant": submission.tenant}
            submission.job.traceparent = traces.active().here()
            if not (limits.share_prefix_cache or submission.job.cache_scope):
                submission.job.cache_scope = records.cache_scope(submission.tenant)
            try:
                with traces.active().phase("submit", about) as span:
                    span.note({"miao.generation": submission.generation_id})
                    result = await place.store.submit(submission, admission)
                    span.note({"miao.outcome": result.outcome.value})
            except NotDurableError as error:
                raise UnsafeAcceptanceError(submission.request_id, str(error)) from error
            match result.outcome:
                case SubmitOutcome.ACCEPTED:
                    metrics.note_acceptance(submission.model, time.perf_counter() - began)
                    logger.info("accepted", extra=_ids(submission))
                    submission.accepted.accept_time.FromMilliseconds(result.accept_ms)
                    return submission.accepted
                case SubmitOutcome.ATTACHED:
                    record = await place.store.get(result.generation_id, submission.tenant)
                    if record is None:  # it has expired this very moment
                        raise QueueUnavailableError
                    return record.accepted
                case SubmitOutcome.LATE:
                    raise QueueUnavailableError
                case SubmitOutcome.MOVED:
                    raise OutdatedFrontError
                case SubmitOutcome.CONFLICT:
                    raise RequestConflictError(submission.request_id)
                case SubmitOutcome.NO_WORKER:
                    raise NoWorkerError(submission.model)
                case SubmitOutcome.MODEL_CHANGED:
                    await self._on_model_changed()
                    raise ModelChangedError(submission.model)
                case SubmitOutcome.BACKLOG_FULL:
                    raise BacklogFullError(
                        submission.model, result.backlog, admission.backlog_limit
                    )
                case SubmitOutcome.LIMITED:
                    assert result.reached is not None
                    raise limit_error(submission, limits, result.reached)


def _ids(submission: Submission) -> dict[str, str | int]:
    """What the log says of whose generation it is."""
    return {
        "generation": submission.generation_id,
        "tenant": submission.tenant,
        "model": submission.model,
        "prompt_tokens": submission.accepted.num_prompt_tokens,
    }


def _limited(submission: Submission, timeout_ms: int) -> Submission:
    """The submission with no more time than this."""
    return dataclasses.replace(
        submission,
        timeout_ms=timeout_ms,
        queue_timeout_ms=min(timeout_ms, submission.queue_timeout_ms),
    )
