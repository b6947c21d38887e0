"""ExplainService: which input tokens carried an answer."""

from __future__ import annotations

from miao.internal.v1.queue_pb2 import ExplanationEntry
from miao.v1 import explain_service_pb2 as rpc
from miao_service.explain_answers import explained
from miao_service.explain_resolution import ExplainResolver
from miao_service.handlers import Call
from miao_service.single_answers import SingleAnswers


class ExplainServicer:
    """Answers ExplainService. One method for each of the contract's."""

    def __init__(self, resolver: ExplainResolver, single_answers: SingleAnswers) -> None:
        self._resolver = resolver
        self._answers = single_answers

    async def explain(self, request: rpc.ExplainRequest, call: Call) -> rpc.ExplainResponse:
        self._answers.name(request, call)
        inquiry = await self._resolver.resolve(request, call.tenant, call.time_remaining())
        choice = request.spec.handling.on_disconnect
        payload = await self._answers.ask(inquiry.submission, choice, call)
        entry = ExplanationEntry.FromString(payload)
        return explained(request, inquiry, entry.result, entry.event.finished)
