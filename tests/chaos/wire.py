"""A caller that reads bare events, as one in another language would."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub
from miao_client import options, responses
from miao_client.failures import Failure
from miao_client.targets import CHANNEL_OPTIONS

from .observation import Fault, Observation

_RETRY_SECONDS = 0.2


class WireCaller:
    """Follows one generation over calls that break, and checks each event's numbers.

    Args:
        targets: fronts; the next one is taken when a call breaks.
    """

    def __init__(self, targets: Sequence[str], observation: Observation) -> None:
        self._targets = itertools.cycle(targets)
        self._observation = observation
        self._digest = 0
        self._attempt = 0
        self._finished: pb.GenerationEvent | None = None

    async def read(self) -> None:
        """Submit, read to the end, and follow it twice more from the beginning."""
        spec, seen = self._observation.spec, self._observation
        request = options.submission(spec.prompt, **spec.options).request
        while self._finished is None:
            call = request if seen.generation_id is None else self._follow_request()
            if not await self._read_call(call):
                return
        ending = responses.ending(self._finished.finished)
        seen.attempts = self._attempt
        seen.compare_whole(ending.reason, ending.stopped_by)
        await self._read_again()

    async def _read_call(self, request: Any) -> bool:
        """Read one call to its end; False if the generation is beyond hope."""
        try:
            async for event in _events(next(self._targets), request):
                self._take(event)
        except grpc.RpcError as error:
            failure = Failure.of(error)
            if failure.is_broken_connection or failure.is_busy:
                await asyncio.sleep(_RETRY_SECONDS)
                return True
            fault = Fault.LOST if failure.code.name == "DATA_LOSS" else Fault.ERROR
            self._observation.blame(fault, f"{failure.code.name}: {failure.message}")
            return False
        if self._finished is None:
            self._observation.blame(Fault.LOST, "a call ended with OK before the generation did")
            return False
        return True

    def _follow_request(self) -> rpc.FollowGenerationRequest:
        seen = self._observation
        request = rpc.FollowGenerationRequest(
            generation_id=seen.generation_id or "", after_sequence_number=seen.seen
        )
        if seen.seen:
            request.output_digest = self._digest
        return request

    def _take(self, event: pb.GenerationEvent) -> None:
        seen = self._observation
        if self._finished is not None:
            seen.blame(Fault.REPEATED, "an event came after the end")
        if event.attempt < self._attempt and not event.HasField("accepted"):
            seen.blame(Fault.DIFFERENT, f"attempt {event.attempt} after {self._attempt}")
        self._attempt = max(self._attempt, event.attempt)
        seen.note_attempt(event.attempt)
        match event.WhichOneof("event"):
            case "accepted":
                self._accept(event.accepted)
            case "tokens":
                self._take_tokens(event)
            case "finished":
                self._finish(event)

    def _accept(self, accepted: pb.Accepted) -> None:
        seen = self._observation
        if seen.generation_id is not None and seen.seen:
            seen.blame(Fault.REPEATED, "accepted came again behind tokens")
        seen.generation_id = accepted.generation_id

    def _take_tokens(self, event: pb.GenerationEvent) -> None:
        tokens, seen = event.tokens, self._observation
        seen.take(
            event.sequence_number,
            tokens.token_ids,
            tokens.text,
            responses.logprobs(tokens.logprobs),
        )
        if len(tokens.token_ids) > 1 and sum(tokens.text_lengths) != len(tokens.text):
            seen.blame(Fault.DIFFERENT, "text_lengths do not add up to the text")
        ids = b"".join(token_id.to_bytes(4, "little") for token_id in tokens.token_ids)
        self._digest = zlib.crc32(ids, self._digest)
        if event.output_digest != self._digest:
            seen.blame(Fault.DIFFERENT, "output_digest is not of the tokens that came")

    def _finish(self, event: pb.GenerationEvent) -> None:
        seen = self._observation
        if event.sequence_number > seen.seen:
            seen.blame(Fault.LOST, f"tokens {seen.seen + 1} to {event.sequence_number} are missing")
        elif event.sequence_number < seen.seen:
            seen.blame(Fault.REPEATED, f"the end speaks of {event.sequence_number} tokens")
        if event.finished.reason == pb.FINISH_REASON_ERROR:
            error = event.finished.error
            seen.blame(Fault.ERROR, f"it ended with an error: {error.code} {error.message}")
        seen.finish()
        self._finished = event

    async def _read_again(self) -> None:
        seen = self._observation
        first, second = await self._whole(), await self._whole()
        if first != second:
            seen.blame(Fault.DIFFERENT, "the journal is not the same each time it is followed")
        token_ids = [i for event in first for i in event.tokens.token_ids]
        if token_ids != seen.token_ids or first[-1] != self._finished:
            seen.blame(Fault.DIFFERENT, "the journal is not what came when it was written")
        kinds = [event.WhichOneof("event") for event in first]
        if kinds.count("accepted") != 1 or kinds.count("finished") != 1 or kinds[0] != "accepted":
            seen.blame(Fault.REPEATED, "the journal does not begin once and end once")

    async def _whole(self) -> list[pb.GenerationEvent]:
        """The journal from its beginning to its end, in one call that does not break."""
        request = rpc.FollowGenerationRequest(generation_id=self._observation.generation_id or "")
        while True:
            try:
                return [event async for event in _events(next(self._targets), request)]
            except grpc.RpcError as error:
                failure = Failure.of(error)
                if not (failure.is_broken_connection or failure.is_busy):
                    raise
                await asyncio.sleep(_RETRY_SECONDS)


async def _events(target: str, request: Any) -> AsyncIterator[pb.GenerationEvent]:
    """The events of one call, on a connection of its own."""
    own = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(target, own) as channel:
        make_stub: Any = GenerationServiceStub  # generated without types
        stub = make_stub(channel)
        is_new = isinstance(request, rpc.GenerateRequest)
        call = stub.Generate(request) if is_new else stub.FollowGeneration(request)
        while True:
            try:
                response = await call.read()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                # How grpc.aio tells of a call that the other side has cancelled.
                raise _cancelled() from None
            if response is grpc.aio.EOF:
                return
            yield response.event


def _cancelled() -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, metadata, metadata, "cut off")
