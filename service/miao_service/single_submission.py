"""The submission of a job that is answered once, whatever it asks for."""

from __future__ import annotations

import secrets

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao.v1.understanding_pb2 import Handling
from miao_queue import records
from miao_queue.records import Submission
from miao_service import time_limits
from miao_service.models import ServedModel
from miao_service.resolution import PRIORITIES
from miao_service.settings import ServiceSettings


def single_submission(
    settings: ServiceSettings,
    model: ServedModel,
    job: Job,
    *,
    request_id: str,
    tenant: str,
    handling: Handling,
    time_remaining: float | None,
    num_tokens: int,
    fingerprint: str,
) -> Submission:
    """Submit `job` to the model, under a request id of our own where there is none."""
    request_id = request_id or secrets.token_urlsafe(16)
    timeout_ms = time_limits.timeout_ms(settings, handling, time_remaining)
    return Submission(
        request_id=request_id,
        model=model.card.name,
        job=job,
        accepted=pb.Accepted(
            generation_id=records.generation_id(tenant, request_id),
            request_id=request_id,
            model=model.card.name,
            num_prompt_tokens=num_tokens,
        ),
        fingerprint=fingerprint,
        timeout_ms=timeout_ms,
        queue_timeout_ms=min(timeout_ms, time_limits.queue_timeout_ms(settings, handling)),
        retention_seconds=settings.answer_retention_seconds,
        priority=PRIORITIES[handling.priority],
        tenant=tenant,
        vocabulary=model.card.vocabulary_digest,
    )
