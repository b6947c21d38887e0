"""UnderstandingService: submit what is asked of an encoder, and wait for its one answer."""

from __future__ import annotations

from collections.abc import Sequence

from miao.internal.v1.queue_pb2 import UnderstandingEntry
from miao.v1 import generation_pb2 as pb
from miao.v1 import understanding_service_pb2 as rpc
from miao_service import understanding_answers as answers
from miao_service.handlers import Call
from miao_service.single_answers import SingleAnswers
from miao_service.understanding_resolution import Question, Request, UnderstandingResolver


class UnderstandingServicer:
    """Answers UnderstandingService. One method for each of the contract's."""

    def __init__(self, resolver: UnderstandingResolver, single_answers: SingleAnswers) -> None:
        self._resolver = resolver
        self._answers = single_answers

    async def embed(self, request: rpc.EmbedRequest, call: Call) -> rpc.EmbedResponse:
        self._answers.name(request, call)
        question = await self._resolver.embed(request, call.tenant, call.time_remaining())
        rows, end = await self._ask(question, request, call)
        return answers.embeddings(question, rows, end)

    async def classify(self, request: rpc.ClassifyRequest, call: Call) -> rpc.ClassifyResponse:
        self._answers.name(request, call)
        question = await self._resolver.classify(request, call.tenant, call.time_remaining())
        rows, end = await self._ask(question, request, call)
        return answers.classifications(request, question, rows, end)

    async def rerank(self, request: rpc.RerankRequest, call: Call) -> rpc.RerankResponse:
        self._answers.name(request, call)
        question = await self._resolver.rerank(request, call.tenant, call.time_remaining())
        rows, end = await self._ask(question, request, call)
        return answers.ranking(request, question, rows, end)

    async def _ask(
        self, question: Question, request: Request, call: Call
    ) -> tuple[Sequence[bytes], pb.Finished]:
        """The rows of the answer, and its end."""
        choice = request.handling.on_disconnect
        payload = await self._answers.ask(question.submission, choice, call)
        entry = UnderstandingEntry.FromString(payload)
        return entry.result.rows, entry.event.finished
