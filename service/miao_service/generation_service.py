"""GenerationService: submit, follow, look at, and cancel generations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_queue import events
from miao_queue.records import CancelOutcome, Record
from miao_service import metrics, paging
from miao_service.abandonment import Abandonment
from miao_service.errors import GenerationLostError, GenerationNotFoundError, JournalLostError
from miao_service.follower import Follower
from miao_service.handlers import CALLER_LEFT, Call
from miao_service.metrics import FirstToken
from miao_service.places import Place, Places
from miao_service.resolution import Resolver
from miao_service.settings import ServiceSettings
from miao_service.submitter import Submitter

_LOOK_AGAIN_SECONDS = 0.1  # for one that Redis may have forgotten


class GenerationServicer:
    """Answers GenerationService. One method for each of the contract's."""

    def __init__(
        self,
        settings: ServiceSettings,
        places: Places,
        resolver: Resolver,
        submitter: Submitter,
        abandonment: Abandonment,
    ) -> None:
        self._places = places
        self._submitter = submitter
        self._abandonment = abandonment
        self._resolver = resolver
        self._redis_timeout = settings.redis_timeout_seconds

    async def generate(self, request: rpc.GenerateRequest, call: Call) -> None:
        first_token = FirstToken()
        request_id = request.request_id or self._places.draw_request_id(call.tenant)
        submission = await self._resolver.resolve(
            request_id, request.spec, call.tenant, call.time_remaining()
        )
        call.generation_id = submission.generation_id
        place = await self._places.of(submission)
        # Followed before it is submitted, so that the reader, when the submission
        # wakes it, looks at this journal too.
        follower = place.reader.follow(submission.generation_id, exists=False)
        begun = time.monotonic()
        submitting = asyncio.ensure_future(self._submitter.submit(submission, place))
        try:
            accepted = await asyncio.shield(submitting)
            follower.confirmed = True
            await call.send(events.accepted(accepted))
            first_token.model = submission.model
            while await _relay_until_lost(follower, call, first_token.note_sent):
                submitting = asyncio.ensure_future(
                    self._submitter.submit_again(submission, place, begun)
                )
                await asyncio.shield(submitting)
                follower.begin_again()
        except CALLER_LEFT:
            place.reader.leave(follower)
            choice = request.spec.on_disconnect
            self._abandonment.caller_left(submission, place, submitting, choice, call)
            raise
        finally:
            place.reader.leave(follower)

    async def create_generation(
        self, request: rpc.CreateGenerationRequest, call: Call
    ) -> rpc.CreateGenerationResponse:
        # The call's deadline is for this answer, not for the generation.
        request_id = request.request_id or self._places.draw_request_id(call.tenant)
        submission = await self._resolver.resolve(request_id, request.spec, call.tenant)
        call.generation_id = submission.generation_id
        await self._submitter.submit(submission, await self._places.of(submission))
        _, record = await self._record(submission.generation_id, call)
        return rpc.CreateGenerationResponse(generation=record.to_generation())

    async def follow_generation(self, request: rpc.FollowGenerationRequest, call: Call) -> None:
        seen = request.after_sequence_number
        place, record = await self._record(request.generation_id, call)
        if record.finished is not None and record.tokens < seen:
            raise JournalLostError
        digest = request.output_digest if request.HasField("output_digest") else None
        follower = place.reader.follow(record.generation_id, seen=seen, digest=digest, exists=True)
        try:
            if seen == 0:
                await call.send(events.accepted(record.accepted))
            await _relay(follower, call)
        finally:
            place.reader.leave(follower)

    async def get_generation(
        self, request: rpc.GetGenerationRequest, call: Call
    ) -> rpc.GetGenerationResponse:
        place, record = await self._record(request.generation_id, call)
        output = None
        if request.include_output:
            async with asyncio.timeout(self._redis_timeout):
                output = await place.store.output(record.generation_id)
        return rpc.GetGenerationResponse(generation=record.to_generation(output))

    async def list_generations(
        self, request: rpc.ListGenerationsRequest, call: Call
    ) -> rpc.ListGenerationsResponse:
        cursor = paging.cursor_of(request.page_token, "page_token")
        async with asyncio.timeout(self._redis_timeout):
            page = await self._places.list_page(
                request.page_size or paging.DEFAULT_PAGE_SIZE, cursor, call.tenant
            )
        generations = [record.to_generation() for record in page.records]
        return rpc.ListGenerationsResponse(
            generations=[entry for entry in generations if _is_asked_for(entry, request)],
            next_page_token=paging.token_of(page.next_cursor),
        )

    async def cancel_generation(
        self, request: rpc.CancelGenerationRequest, call: Call
    ) -> rpc.CancelGenerationResponse:
        place = self._places.only or (await self._record(request.generation_id, call))[0]
        while await self._cancel(place, request.generation_id, call) is CancelOutcome.MISSING:
            place, _ = await self._record(request.generation_id, call)  # raises, unless it is there
        _, record = await self._record(request.generation_id, call)
        return rpc.CancelGenerationResponse(generation=record.to_generation())

    async def _cancel(self, place: Place, generation_id: str, call: Call) -> CancelOutcome:
        async with asyncio.timeout(self._redis_timeout):
            return await place.store.cancel(generation_id, call.tenant)

    async def _record(self, generation_id: str, call: Call) -> tuple[Place, Record]:
        """A generation's, and where it lies; one that Redis may just have forgotten is awaited."""
        call.generation_id = generation_id
        deadline = time.monotonic() + self._redis_timeout
        while (found := await self._look_up(generation_id, call)) is None:
            if not self._places.may_restore or time.monotonic() > deadline:
                raise GenerationNotFoundError(generation_id)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return found

    async def _look_up(self, generation_id: str, call: Call) -> tuple[Place, Record] | None:
        found = await self._places.find(generation_id, call.tenant)
        return found if found is not None and found[1].is_generation else None


async def _relay(
    follower: Follower, call: Call, note_sent: Callable[[int], None] = metrics.EVENTS.inc
) -> None:
    while batch := await follower.next_batch():
        call.is_at_end = follower.has_ended
        for payload in batch:
            await call.send(payload)
        note_sent(len(batch))


async def _relay_until_lost(
    follower: Follower, call: Call, note_sent: Callable[[int], None]
) -> bool:
    """Relay to the end, or until Redis has lost the generation; says whether it has."""
    try:
        await _relay(follower, call, note_sent)
    except GenerationLostError:
        return True
    return False


def _is_asked_for(generation: pb.Generation, request: rpc.ListGenerationsRequest) -> bool:
    return (not request.model or generation.model == request.model) and (
        not request.state or generation.state == request.state
    )
