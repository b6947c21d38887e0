"""ScoreService: how likely a text is to a model."""

from __future__ import annotations

import math
import time

import grpc

from miao.v1 import generation_pb2 as pb
from miao.v1 import score_service_pb2 as rpc
from miao_queue import events
from miao_queue.records import Submission
from miao_service.errors import EndedEarlyError, GenerationLostError
from miao_service.follower import Follower
from miao_service.handlers import Call
from miao_service.places import Places
from miao_service.score_resolution import ScoreResolver
from miao_service.submitter import Submitter


class ScoreServicer:
    """Answers ScoreService. One method for each of the contract's.

    A score whose caller goes away runs on to its end or deadline: whoever calls
    again with its request id gets it.
    """

    def __init__(self, places: Places, scores: ScoreResolver, submitter: Submitter) -> None:
        self._submitter = submitter
        self._scores = scores
        self._places = places

    async def score(self, request: rpc.ScoreRequest, call: Call) -> rpc.ScoreResponse:
        request_id = request.request_id or self._places.draw_request_id(call.tenant)
        submission = await self._scores.resolve(
            request_id, request.spec, call.tenant, call.time_remaining()
        )
        call.generation_id = submission.generation_id
        place = await self._places.of(submission)
        follower = place.reader.follow(submission.generation_id, exists=False)
        tally = _Tally(submission)
        begun = time.monotonic()
        try:
            await self._submitter.submit(submission, place)
            follower.confirmed = True
            while not await _add_all(follower, tally):
                await self._submitter.submit_again(submission, place, begun)
                follower.begin_again()
        finally:
            place.reader.leave(follower)
        return tally.response()


async def _add_all(follower: Follower, tally: _Tally) -> bool:
    """Read to the end; False where Redis has lost the score."""
    try:
        while batch := await follower.next_batch():
            for payload in batch:
                tally.add(events.decode(payload))
    except GenerationLostError:
        return False
    return True


class _Tally:
    """Adds up what a score's journal says."""

    def __init__(self, submission: Submission) -> None:
        self._response = rpc.ScoreResponse(
            generation_id=submission.generation_id,
            model=submission.model,
            num_dropped_prompt_tokens=submission.accepted.num_dropped_prompt_tokens,
        )
        self._has_context = submission.job.echo_from > 0

    def add(self, event: pb.GenerationEvent) -> None:
        """Add an event. EndedEarlyError where it is an end for another reason than being done."""
        if event.HasField("finished"):
            self._finish(event.finished)
            return
        tokens, begin = event.tokens, 0
        lengths = tokens.text_lengths or [len(tokens.text)]
        for token_id, logprobs, length in zip(
            tokens.token_ids, tokens.logprobs, lengths, strict=True
        ):
            text = tokens.text[begin : begin + length]
            begin += length
            self._add_token(token_id, text, logprobs)

    def response(self) -> rpc.ScoreResponse:
        """The answer, once the end was added."""
        response = self._response
        logprobs = [token.logprob for token in response.tokens if token.HasField("logprob")]
        response.log_likelihood = math.fsum(logprobs)
        response.num_scored_tokens = len(logprobs)
        mean = response.log_likelihood / max(1, len(logprobs))
        response.perplexity = math.exp(min(-mean, 700.0))
        return response

    def _add_token(self, token_id: int, text: str, logprobs: pb.TokenLogprobs) -> None:
        token = self._response.tokens.add(token_id=token_id, text=text, top=logprobs.top)
        if self._has_context or len(self._response.tokens) > 1:
            token.logprob = logprobs.logprob

    def _finish(self, finished: pb.Finished) -> None:
        match finished.reason:
            case pb.FINISH_REASON_LENGTH:
                self._response.usage.CopyFrom(finished.usage)
                self._response.timings.CopyFrom(finished.timings)
            case pb.FINISH_REASON_CANCELLED:
                raise EndedEarlyError(grpc.StatusCode.CANCELLED, "the score was cancelled")
            case pb.FINISH_REASON_DEADLINE_EXCEEDED:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise EndedEarlyError(code, "the score's time was over before its end")
            case _:
                raise EndedEarlyError(grpc.StatusCode.INTERNAL, finished.error.message)
