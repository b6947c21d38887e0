"""A real gRPC server in this process, whose answers each test scripts."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import status_pb2

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as generations
from miao.v1 import model_service_pb2 as models

GENERATION_ID = "gen-1"
_SERVICES = {
    "GenerationService": {
        "Generate": (generations.GenerateRequest, True),
        "FollowGeneration": (generations.FollowGenerationRequest, True),
        "CreateGeneration": (generations.CreateGenerationRequest, False),
        "GetGeneration": (generations.GetGenerationRequest, False),
        "ListGenerations": (generations.ListGenerationsRequest, False),
        "CancelGeneration": (generations.CancelGenerationRequest, False),
    },
    "ModelService": {
        "ListModels": (models.ListModelsRequest, False),
        "GetModel": (models.GetModelRequest, False),
        "Tokenize": (models.TokenizeRequest, False),
    },
}


class Refuse(Exception):  # noqa: N818  # reads as what the service does
    """Ends a call with a status and google.rpc details."""

    def __init__(self, code: grpc.StatusCode, message: str = "", *details: Message) -> None:
        self.code, self.message, self.details = code, message, details


class FakeService:
    """Answers each call with the next of the answers scripted for its method.

    An answer is a dict of the response's fields, a list of events, an exception, or
    a function of the request that gives one of these. Within a list of events a function is
    called when its turn comes.
    """

    Refuse = Refuse
    generation_id = GENERATION_ID

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[tuple[str, float | None]] = []  # method, time remaining
        self.shown: list[dict[str, Any]] = []  # the metadata of each call
        self.released = Event()
        self._answers: dict[str, deque[Any]] = defaultdict(deque)
        self._servers: list[grpc.Server] = []

    def script(self, method: str, *answers: Any) -> None:
        """Add answers for the next calls of a method."""
        self._answers[method].extend(answers)

    def requests(self, method: str) -> list[Any]:
        """The requests of a method's calls so far."""
        return [request for name, request in self.calls if name == method]

    def start(self, address: str = "127.0.0.1:0") -> str:
        """Serve at one more address; returns it."""
        server = grpc.server(ThreadPoolExecutor(max_workers=8))
        for service, methods in _SERVICES.items():
            server.add_generic_rpc_handlers([self._handlers(service, methods)])
        server.add_generic_rpc_handlers([_health_handler()])
        port = server.add_insecure_port(address)
        server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    def kill(self, index: int = 0) -> None:
        """Stop a server at once, with all its connections."""
        self._servers[index].stop(None).wait()

    def stop(self) -> None:
        """Stop all servers and release what waits."""
        self.released.set()
        for server in self._servers:
            server.stop(None).wait()

    # -- events ------------------------------------------------------------

    def accepted(self, **fields: Any) -> pb.GenerationEvent:
        fields = {"generation_id": GENERATION_ID, "request_id": "r", "model": "m"} | fields
        return pb.GenerationEvent(accepted=pb.Accepted(seed=7, max_tokens=16, **fields))

    def tokens(self, upto: int, text: str, count: int = 1, attempt: int = 1) -> pb.GenerationEvent:
        """An event of `count` tokens; with several, each has one character but the last."""
        ids = range(upto - count + 1, upto + 1)
        lengths = [1] * (count - 1) + [len(text) - count + 1] if count > 1 else []
        tokens = pb.Tokens(text=text, token_ids=ids, text_lengths=lengths)
        return pb.GenerationEvent(sequence_number=upto, attempt=attempt, tokens=tokens)

    def finished(
        self, upto: int, reason: int = pb.FINISH_REASON_STOP, attempt: int = 1, **fields: Any
    ) -> pb.GenerationEvent:
        usage = pb.Usage(prompt_tokens=3, output_tokens=upto)
        finished = pb.Finished(reason=reason, usage=usage, **fields)
        finished.timings.total.FromMilliseconds(1500)
        return pb.GenerationEvent(sequence_number=upto, attempt=attempt, finished=finished)

    def answer(self, *texts: str) -> list[pb.GenerationEvent]:
        """A whole stream with one token for each text."""
        middle = [self.tokens(number, text) for number, text in enumerate(texts, start=1)]
        return [self.accepted(), *middle, self.finished(len(texts))]

    def generation(self, state: int = pb.GENERATION_STATE_RUNNING, **fields: Any) -> pb.Generation:
        fields = {"generation_id": GENERATION_ID, "request_id": "r", "model": "m"} | fields
        return pb.Generation(state=state, **fields)

    def cut(self) -> None:
        """Within a list of events: the connection breaks here."""
        raise Refuse(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    def hold(self) -> None:
        """Within a list of events: wait until the test ends or releases."""
        self.released.wait(20)

    # -- serving -----------------------------------------------------------

    def _handlers(self, service: str, methods: dict[str, Any]) -> grpc.GenericRpcHandler:
        handlers = {}
        for name, (request, streams) in methods.items():
            make = (
                grpc.unary_stream_rpc_method_handler
                if streams
                else grpc.unary_unary_rpc_method_handler
            )
            serve = self._serve_stream(name) if streams else self._serve_once(name)
            handlers[name] = make(
                serve,
                request_deserializer=request.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        return grpc.method_handlers_generic_handler(f"miao.v1.{service}", handlers)

    def _serve_once(self, name: str) -> Callable[[Any, grpc.ServicerContext], Message]:
        def serve(request: Any, context: grpc.ServicerContext) -> Message:
            module = generations if hasattr(generations, f"{name}Response") else models
            try:
                fields = self._next(name, request, context)
                return getattr(module, f"{name}Response")(**fields)
            except Refuse as refusal:
                _abort(context, refusal)
                raise

        return serve

    def _serve_stream(self, name: str) -> Callable[[Any, grpc.ServicerContext], Iterator[Message]]:
        def serve(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
            try:
                for event in self._events(self._next(name, request, context)):
                    yield generations.GenerateResponse(event=event)
            except Refuse as refusal:
                _abort(context, refusal)

        return serve

    def _events(self, events: Iterable[Any]) -> Iterator[pb.GenerationEvent]:
        for event in events:
            made = event() if callable(event) else event
            if made is not None:
                yield made

    def _next(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        self.calls.append((name, request))
        self.metadata.append((name, context.time_remaining()))
        self.shown.append({**dict(context.invocation_metadata()), "peer": context.peer()})
        if not self._answers[name]:
            raise Refuse(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not scripted")
        answer = self._answers[name].popleft()
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _health_handler() -> grpc.GenericRpcHandler:
    """grpc.health.v1 as bytes: field 1 says SERVING."""
    check = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})


def _abort(context: grpc.ServicerContext, refusal: Refuse) -> None:
    status = status_pb2.Status(code=refusal.code.value[0], message=refusal.message)
    for detail in refusal.details:
        packed = Packed()
        packed.Pack(detail)
        status.details.append(packed)
    if refusal.details:
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(refusal.code, refusal.message)


@pytest.fixture
def service() -> Iterator[FakeService]:
    """The service, not yet serving anywhere."""
    fake = FakeService()
    yield fake
    fake.stop()


@pytest.fixture
def target(service: FakeService) -> str:
    """The address of a server of the service."""
    return service.start()
