"""Jobs that are answered once: submit one, and wait for the one entry of its journal."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from miao.v1 import generation_pb2 as pb
from miao_queue import events
from miao_queue.records import Submission
from miao_service.abandonment import Abandonment
from miao_service.errors import (
    GenerationLostError,
    JobCancelledError,
    JobFailedError,
    JobOverdueError,
)
from miao_service.follower import Follower
from miao_service.handlers import CALLER_LEFT, Call
from miao_service.places import Places
from miao_service.submitter import Submitter


class HasRequestId(Protocol):
    """A request of one of the calls that are answered once."""

    request_id: str


class SingleAnswers:
    """Gets the answers of jobs whose journal is one terminal entry."""

    def __init__(self, places: Places, submitter: Submitter, abandonment: Abandonment) -> None:
        self._places = places
        self._submitter = submitter
        self._abandonment = abandonment

    def name(self, request: HasRequestId, call: Call) -> None:
        """Give a request an id that has none."""
        request.request_id = request.request_id or self._places.draw_request_id(call.tenant)

    async def ask(
        self, submission: Submission, on_disconnect: pb.OnDisconnect, call: Call
    ) -> bytes:
        """Submit, and wait for the end: the entry with the answer, or the refusal that it means."""
        call.generation_id = submission.generation_id
        place = await self._places.of(submission)
        # Followed before it is submitted, as a generation is.
        follower = place.reader.follow(submission.generation_id, exists=False)
        begun = time.monotonic()
        submitting = asyncio.ensure_future(self._submitter.submit(submission, place))
        try:
            await asyncio.shield(submitting)
            follower.confirmed = True
            while (payload := await _end_of(follower)) is None:
                submitting = asyncio.ensure_future(
                    self._submitter.submit_again(submission, place, begun)
                )
                await asyncio.shield(submitting)
                follower.begin_again()
        except CALLER_LEFT:
            place.reader.leave(follower)
            self._abandonment.caller_left(submission, place, submitting, on_disconnect, call)
            raise
        finally:
            place.reader.leave(follower)
        _raise_unless_answered(events.decode(payload).finished, submission.request_id)
        return payload


async def _end_of(follower: Follower) -> bytes | None:
    """The one entry of a job's journal; None where Redis has lost the job."""
    last = b""
    try:
        while batch := await follower.next_batch():
            last = batch[-1]
    except GenerationLostError:
        return None
    return last


def _raise_unless_answered(finished: pb.Finished, request_id: str) -> None:
    match finished.reason:
        case pb.FINISH_REASON_STOP:
            return
        case pb.FINISH_REASON_CANCELLED:
            raise JobCancelledError(request_id)
        case pb.FINISH_REASON_DEADLINE_EXCEEDED:
            raise JobOverdueError
    raise JobFailedError(finished.error)
