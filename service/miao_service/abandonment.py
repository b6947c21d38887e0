"""What becomes of work whose caller has gone away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from miao.v1 import generation_pb2 as pb
from miao_queue.records import Submission
from miao_service.handlers import Call
from miao_service.places import Place, Places
from miao_service.submitter import Submitter


class Abandonment:
    """Cancels what nobody waits for any more, unless its caller wanted it to go on."""

    def __init__(self, submitter: Submitter, places: Places) -> None:
        self._submitter = submitter
        self._places = places
        self._background: set[asyncio.Task[None]] = set()
        self.is_draining = False

    def caller_left(
        self,
        submission: Submission,
        place: Place,
        submitting: asyncio.Future[pb.Accepted],
        choice: pb.OnDisconnect,
        call: Call,
    ) -> None:
        """Take notice that a call has ended before its answer."""
        goes_on = (
            choice == pb.ON_DISCONNECT_CONTINUE
            or self.is_draining
            or self._places.is_followed(submission.generation_id)
            or _is_over(call.time_remaining(), submission)
        )
        if goes_on:
            submitting.add_done_callback(_forget)
        else:
            self._in_background(self._submitter.cancel(submission, place, submitting))

    async def settle(self) -> None:
        """Wait for what goes on behind calls that have ended."""
        await asyncio.gather(*self._background, return_exceptions=True)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _is_over(time_remaining: float | None, submission: Submission) -> bool:
    """Whether the caller left because the time was over: then that is how it ends, by itself.

    A caller's clock strikes a little before ours, for the deadline comes here
    rounded up, by as much as one part in a hundred.
    """
    slack = 0.25 + submission.timeout_ms / 1000 * 0.01
    return time_remaining is not None and time_remaining < slack


def _forget(future: asyncio.Future[pb.Accepted]) -> None:
    """Take notice of how it ended, so that asyncio does not complain."""
    if not future.cancelled():
        future.exception()
