"""A real gRPC server in this process that answers every call of the contract as scripted."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from miao.v1 import (
    explain_service_pb2,
    fleet_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    score_service_pb2,
    understanding_service_pb2,
    usage_service_pb2,
)
from miao_client.testing.health import Health
from miao_client.testing.refusals import Refuse

_CONTRACT = (
    explain_service_pb2,
    fleet_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    score_service_pb2,
    understanding_service_pb2,
    usage_service_pb2,
)
_MOST_CALLS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came: its method, request and metadata, who called, and its deadline."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]  # the key among it, as "authorization"
    peer: str
    seconds_left: float | None  # None without a deadline
    is_active: Callable[[], bool] = field(repr=False)  # whether the caller is still there


class ScriptedServer:
    """Answers each call with the next of the answers scripted for its method.

    An answer is a dict of the response's fields, a response, an exception such as
    `Refuse`, for methods that stream a list of events or responses, or a function of
    the request that gives one of these. Within a list a function is called when its turn comes, and
    may raise. What is not scripted goes to `unscripted`.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._scripts: dict[str, deque[Any]] = defaultdict(deque)
        self._servers: dict[str, grpc.Server] = {}
        self._health: dict[str, Health] = {}
        self._lock = threading.Condition()

    @property
    def targets(self) -> tuple[str, ...]:
        """The addresses at which it serves."""
        return tuple(self._servers)

    def start(
        self, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
    ) -> str:
        """Serve at one more address; returns it.

        Args:
            address: Host and port; 0 lets the system choose the port.
            credentials: For TLS, as `grpc.ssl_server_credentials` makes them.
        """
        server = grpc.server(ThreadPoolExecutor(max_workers=_MOST_CALLS_AT_ONCE))
        for module in _CONTRACT:
            for service in module.DESCRIPTOR.services_by_name.values():
                handlers = {method.name: self._handler(method) for method in service.methods}
                handler = grpc.method_handlers_generic_handler(service.full_name, handlers)
                server.add_generic_rpc_handlers([handler])
        health = Health()
        server.add_generic_rpc_handlers([health.handler()])
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        target = f"{address.rpartition(':')[0]}:{port}"
        self._servers[target] = server
        self._health[target] = health
        return target

    def say_health(self, target: str, is_serving: bool) -> None:
        """Let the health service at an address say so from now on; it serves either way."""
        self._health[target].tell(is_serving)

    def kill(self, target: str) -> None:
        """Stop serving at an address at once, with all its connections."""
        self._health.pop(target).close()
        self._servers.pop(target).stop(None).wait()

    def stop(self) -> None:
        """Stop serving everywhere."""
        for target in self.targets:
            self.kill(target)

    def script(self, method: str, *answers: Any) -> None:
        """Add answers for the next calls of a method, such as "ListModels"."""
        with self._lock:
            self._scripts[method].extend(answers)

    def requests(self, method: str) -> list[Any]:
        """The requests of a method's calls so far."""
        return [call.request for call in self.calls if call.method == method]

    def wait_for_call(self, method: str, seconds: float = 10.0) -> Call:
        """Wait until a method has been called, and give its last call; else TimeoutError."""
        with self._lock:
            if not self._lock.wait_for(lambda: self.requests(method), seconds):
                raise TimeoutError(f"{method} was not called")
            return next(call for call in reversed(self.calls) if call.method == method)

    def unscripted(self, call: Call) -> Any:
        """The answer to a call for which none is scripted."""
        raise Refuse(grpc.StatusCode.UNIMPLEMENTED, f"{call.method} is not scripted")

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        read = GetMessageClass(method.input_type).FromString
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._serve_stream(method), read, _serialized
            )
        return grpc.unary_unary_rpc_method_handler(self._serve_once(method), read, _serialized)

    def _serve_once(
        self, method: MethodDescriptor
    ) -> Callable[[Any, grpc.ServicerContext], Message]:
        response = GetMessageClass(method.output_type)

        def serve(request: Any, context: grpc.ServicerContext) -> Message:
            try:
                answer = self._next(method.name, request, context)
            except Refuse as refusal:
                refusal.end(context)
                raise
            return answer if isinstance(answer, Message) else response(**answer)

        return serve

    def _serve_stream(
        self, method: MethodDescriptor
    ) -> Callable[[Any, grpc.ServicerContext], Iterator[Message]]:
        response = GetMessageClass(method.output_type)

        def serve(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
            try:
                for event in _made(self._next(method.name, request, context)):
                    yield event if isinstance(event, response) else response(event=event)
            except Refuse as refusal:
                refusal.end(context)

        return serve

    def _next(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        call = Call(
            method,
            request,
            dict(context.invocation_metadata()),
            context.peer(),
            context.time_remaining(),
            context.is_active,
        )
        with self._lock:
            self.calls.append(call)
            self._lock.notify_all()
            scripted = self._scripts[method].popleft() if self._scripts[method] else None
        answer = self.unscripted(call) if scripted is None else scripted
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _made(events: Iterable[Any]) -> Iterator[Any]:
    for event in events:
        made = event() if callable(event) else event
        if made is not None:
            yield made


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
