"""UnderstandingService: submit what is asked of an encoder, and wait for its one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from miao.internal.v1.queue_pb2 import UnderstandingEntry
from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_service_pb2 as rpc
from miao_service import understanding_answers as answers
from miao_service.abandonment import Abandonment
from miao_service.errors import (
    GenerationLostError,
    JobCancelledError,
    JobFailedError,
    JobOverdueError,
)
from miao_service.follower import Follower
from miao_service.handlers import CALLER_LEFT, Call
from miao_service.journal_reader import JournalReader
from miao_service.submitter import Submitter
from miao_service.understanding_resolution import Question, Request, UnderstandingResolver


class UnderstandingServicer:
    """Answers UnderstandingService. One method for each of the contract's."""

    def __init__(
        self,
        resolver: UnderstandingResolver,
        reader: JournalReader,
        submitter: Submitter,
        abandonment: Abandonment,
    ) -> None:
        self._resolver = resolver
        self._reader = reader
        self._submitter = submitter
        self._abandonment = abandonment

    async def embed(self, request: rpc.EmbedRequest, call: Call) -> rpc.EmbedResponse:
        question = await self._resolver.embed(request, call.tenant, call.time_remaining())
        rows, end = await self._ask(question, request, call)
        return answers.embeddings(question, rows, end)

    async def classify(self, request: rpc.ClassifyRequest, call: Call) -> rpc.ClassifyResponse:
        question = await self._resolver.classify(request, call.tenant, call.time_remaining())
        rows, end = await self._ask(question, request, call)
        return answers.classifications(request, question, rows, end)

    async def rerank(self, request: rpc.RerankRequest, call: Call) -> rpc.RerankResponse:
        question = await self._resolver.rerank(request, call.tenant, call.time_remaining())
        rows, end = await self._ask(question, request, call)
        return answers.ranking(request, question, rows, end)

    async def _ask(
        self, question: Question, request: Request, call: Call
    ) -> tuple[Sequence[bytes], pb.Finished]:
        """Submit, and wait for the end: the rows that it brings, or the refusal that it means."""
        submission = question.submission
        call.generation_id = submission.generation_id
        # Followed before it is submitted, as a generation is.
        follower = self._reader.follow(submission.generation_id, exists=False)
        begun = time.monotonic()
        submitting = asyncio.ensure_future(self._submitter.submit(submission))
        try:
            await asyncio.shield(submitting)
            follower.confirmed = True
            while (entry := await _end_of(follower)) is None:
                submitting = asyncio.ensure_future(self._submitter.submit_again(submission, begun))
                await asyncio.shield(submitting)
                follower.begin_again()
        except CALLER_LEFT:
            self._reader.leave(follower)
            choice = request.handling.on_disconnect
            self._abandonment.caller_left(submission, submitting, choice, call)
            raise
        finally:
            self._reader.leave(follower)
        _raise_unless_answered(entry, submission.request_id)
        return entry.result.rows, entry.event.finished


async def _end_of(follower: Follower) -> UnderstandingEntry | None:
    """The one entry of a job's journal; None where Redis has lost the job."""
    last = b""
    try:
        while batch := await follower.next_batch():
            last = batch[-1]
    except GenerationLostError:
        return None
    return UnderstandingEntry.FromString(last)


def _raise_unless_answered(entry: UnderstandingEntry, request_id: str) -> None:
    match entry.event.finished.reason:
        case pb.FINISH_REASON_STOP:
            return
        case pb.FINISH_REASON_CANCELLED:
            raise JobCancelledError(request_id)
        case pb.FINISH_REASON_DEADLINE_EXCEEDED:
            raise JobOverdueError
    raise JobFailedError(entry.event.finished.error)
