"""Calls of every kind, right and wrong, and how the service answers them."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from miao.v1 import explain_service_pb2 as explaining
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as generations
from miao.v1 import model_service_pb2 as models
from miao.v1 import score_service_pb2 as scores
from miao.v1 import understanding_service_pb2 as understanding
from tests.fuzz import wire
from tests.fuzz.values import Values

_SERVICES = [
    generations.DESCRIPTOR.services_by_name["GenerationService"],
    models.DESCRIPTOR.services_by_name["ModelService"],
    scores.DESCRIPTOR.services_by_name["ScoreService"],
    understanding.DESCRIPTOR.services_by_name["UnderstandingService"],
    explaining.DESCRIPTOR.services_by_name["ExplainService"],
]
METHODS: list[MethodDescriptor] = [method for each in _SERVICES for method in each.methods]
_FOREIGN = [
    *("/miao.v1.GenerationService/Destroy", "/miao.v2.GenerationService/Generate", "/", "/x"),
    *("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/" + "x" * 3000,
]
OVERSIZED = b"x" * (17 * 1024 * 1024)
CALL_SECONDS = 20.0

Outcome = tuple[str, str]  # what was called, and the status


class Attack:
    """One caller that calls whatever comes to its mind."""

    def __init__(self, target: str, seed: int, outcomes: Counter[Outcome]) -> None:
        self._target = target
        self._rng = random.Random(seed)
        self._values = Values(self._rng)
        self._outcomes = outcomes
        self._kinds: list[tuple[int, Callable[[Any], Awaitable[None]]]] = [
            (40, self._ask),
            (20, self._ask_spoiled),
            (10, self._leave_early),
            (5, self._hurry),
            (5, self._call_what_is_not_there),
            (5, self._send_several_messages),
            (3, self._send_strange_metadata),
            (2, self._send_no_http),
        ]

    async def run(self, calls: int) -> None:
        """Make so many calls, over a channel that is new now and then."""
        while calls > 0:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
            async with grpc.aio.insecure_channel(self._target, options=options) as channel:
                for _ in range(min(calls, 100)):
                    weights = [weight for weight, _ in self._kinds]
                    _, kind = self._rng.choices(self._kinds, weights)[0]
                    await kind(channel)
            calls -= 100

    async def send_too_much(self) -> None:
        """One message that is larger than any may be."""
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(self._target, options=options) as channel:
            call = channel.unary_unary("/miao.v1.GenerationService/CreateGeneration")
            await self._note("oversized", _end(call(OVERSIZED, timeout=CALL_SECONDS)))

    async def _ask(self, channel: Any) -> None:
        method = self._rng.choice(METHODS)
        await self._note(method.name, self._read(channel, method, self._request(method)))

    async def _ask_spoiled(self, channel: Any) -> None:
        method = self._rng.choice(METHODS)
        payload = wire.spoil(self._rng, self._request(method))
        await self._note(f"{method.name} spoiled", self._read(channel, method, payload))

    async def _leave_early(self, channel: Any) -> None:
        method = self._rng.choice(METHODS)
        call = _open(channel, method)(self._request(method), timeout=CALL_SECONDS)
        await asyncio.sleep(self._rng.choice([0, 0, 0.001, 0.01]))
        if method.server_streaming and self._rng.random() < 0.5:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call.read()
        call.cancel()
        self._outcomes["left early", "CANCELLED"] += 1

    async def _hurry(self, channel: Any) -> None:
        method = self._rng.choice(METHODS)
        seconds = self._rng.choice([0.0, 0.0001, 0.001, 0.01])
        await self._note("hurried", self._read(channel, method, self._request(method), seconds))

    async def _call_what_is_not_there(self, channel: Any) -> None:
        path, payload = self._rng.choice(_FOREIGN), self._rng.randbytes(self._rng.randrange(50))
        await self._note("foreign", _end(channel.unary_stream(path)(payload, timeout=0.5)))

    async def _send_several_messages(self, channel: Any) -> None:
        method = self._rng.choice(METHODS)
        payloads = [self._request(method) for _ in range(self._rng.choice([0, 2, 3]))]
        open_ = channel.stream_stream(_path(method))
        if payloads:
            await self._note("several messages", _end(open_(iter(payloads), timeout=CALL_SECONDS)))
        else:  # gRPC leaves such a call to its deadline
            await self._note("no message", _end(open_(iter(()), timeout=0.2)))

    async def _send_strange_metadata(self, channel: Any) -> None:
        method, rng = self._rng.choice(METHODS), self._rng
        metadata = rng.choice(
            [
                [("x-junk-bin", rng.randbytes(1000))],
                [("grpc-encoding-x", "gzip"), ("user-agent", "x" * 500)],
                [(f"x-{n}", "y" * 100) for n in range(50)],
                [("x-large", "z" * rng.choice([9_000, 20_000]))],
                [("grpc-status-details-bin", b"\xff" * 10), ("traceparent", "00-zz")],
            ]
        )
        call = _open(channel, method)(
            self._request(method), timeout=CALL_SECONDS, metadata=metadata
        )
        await self._note("strange metadata", _end(call))

    async def _send_no_http(self, channel: Any) -> None:
        host, port = self._target.rsplit(":", 1)
        _, writer = await asyncio.open_connection(host, int(port))
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" if self._rng.random() < 0.5 else b""
        writer.write(preface + self._rng.randbytes(self._rng.choice([0, 9, 100, 5000])))
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._outcomes["no HTTP", "sent"] += 1

    async def _note(self, name: str, call: Awaitable[Any]) -> None:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            unsent = (error.debug_error_string() or "").startswith("Failed")  # it had ended before
            self._outcomes[name, "not sent" if unsent else error.code().name] += 1
        else:
            self._outcomes[name, "OK"] += 1

    async def _read(
        self, channel: Any, method: MethodDescriptor, payload: bytes, seconds: float = CALL_SECONDS
    ) -> None:
        """Make a call and remember what its answers name."""
        call = _open(channel, method)(payload, timeout=seconds)
        response_class = GetMessageClass(method.output_type)
        if not method.server_streaming:
            self._remember(response_class.FromString(await call))
            return
        async for response in call:
            self._remember(response_class.FromString(response))

    def _remember(self, response: Any) -> None:
        known = self._values.known
        match response:
            case generations.GenerateResponse() | generations.FollowGenerationResponse():
                known.append(response.event.accepted.generation_id)
            case generations.CreateGenerationResponse():
                known += [response.generation.generation_id, response.generation.request_id]
            case generations.ListGenerationsResponse():
                known.append(response.next_page_token)
        del known[:-50]

    def _request(self, method: MethodDescriptor) -> bytes:
        """One that is right, or nearly, or not at all."""
        if self._rng.random() < 0.25:
            return self._values.message(method.input_type).SerializeToString()
        message = _right(method, self._values)
        for _ in range(self._rng.choice([0, 1, 1, 2, 3])):
            self._values.disturb(message)
        return message.SerializeToString()


def _right(method: MethodDescriptor, values: Values) -> Message:
    """A request that the service takes."""
    message: Any = GetMessageClass(method.input_type)()
    known = values.rng.choice(values.known) if values.known else "none"
    match message:
        case generations.GenerateRequest() | generations.CreateGenerationRequest():
            message.spec.CopyFrom(pb.GenerationSpec(prompt="hello", max_tokens=16))
        case models.TokenizeRequest():
            message.chat.messages.add(role=pb.ROLE_USER, content="hello")
        case generations.ListGenerationsRequest() | models.ListModelsRequest():
            pass
        case models.GetModelRequest():
            message.name = "tiny"
        case scores.ScoreRequest():
            message.spec.prompt, message.spec.text = "hello", " world"
        case explaining.ExplainRequest() if values.rng.random() < 0.5:
            message.spec.prompt, message.spec.max_tokens = "hello", 3
        case explaining.ExplainRequest():
            message.spec.classify.text = "hello"
        case understanding.EmbedRequest():
            message.inputs.append("hello")
        case understanding.ClassifyRequest():
            message.inputs.add(text="hello")
        case understanding.RerankRequest():
            message.query = "hello"
            message.documents.append("world")
        case _:
            message.generation_id = known
    return message  # type: ignore[no-any-return]


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _open(channel: Any, method: MethodDescriptor) -> Any:
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    return kind(_path(method))


async def _end(call: Any) -> None:
    """Read a call to its end, whatever it brings."""
    if not hasattr(call, "__aiter__"):
        await call
        return
    with contextlib.suppress(DecodeError):
        async for _ in call:
            pass
