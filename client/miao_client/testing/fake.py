"""A whole Miao service in this process, for the tests of programs that call one."""

from __future__ import annotations

import hashlib
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Self

import grpc

from miao.v1 import generation_pb2 as pb
from miao.v1 import model_service_pb2 as models_pb
from miao.v1 import understanding_pb2
from miao_client.aio.client import AsyncClient
from miao_client.sync.client import Client
from miao_client.testing.generation import FakeGeneration
from miao_client.testing.refusals import Refuse, not_found
from miao_client.testing.server import Call, ScriptedServer
from miao_client.testing.steps import Step

DEFAULT_MODEL = "fake"
DIMENSIONS = 8


class FakeService(ScriptedServer):
    """Miao, as far as its callers can tell, except that a test says what the model says.

    It serves on loopback over gRPC, so the whole SDK is under test too: retries, resumed
    streams, deadlines, cancelling. Generations are kept and can be followed, got, listed and
    cancelled; the same `request_id` attaches to the one that there is.

    Example:
        >>> with FakeService() as service, service.client() as client:
        ...     service.will_say("Hello", Cut(), " world")
        ...     assert client.generate("Hi").text == "Hello world"
    """

    def __init__(self, model: str = DEFAULT_MODEL) -> None:
        super().__init__()
        self.model = model
        self.generations: dict[str, FakeGeneration] = {}
        self._scripted: deque[Sequence[Step] | Refuse] = deque()
        self._always: Sequence[Step] | None = None
        self._accepting = threading.Lock()
        self.target = self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self, **settings: Any) -> Client:
        """A client of this service; `settings` are those of `Client`."""
        return Client(self.target, **settings)

    def async_client(self, **settings: Any) -> AsyncClient:
        """A client of this service for asyncio."""
        return AsyncClient(self.target, **settings)

    def will_say(self, *steps: Step) -> None:
        """Script the next generation: its tokens, and what happens between them."""
        self._scripted.append(steps)

    def will_refuse(self, refusal: Refuse) -> None:
        """Refuse the next request to generate."""
        self._scripted.append(refusal)

    def always_says(self, *steps: Step) -> None:
        """What generations say that have no script of their own."""
        self._always = steps

    @property
    def last_generation(self) -> FakeGeneration:
        """The one that was accepted last."""
        return list(self.generations.values())[-1]

    def stop(self) -> None:
        """End everything."""
        for generation in self.generations.values():
            generation.cancel()
        super().stop()

    def unscripted(self, call: Call) -> Any:
        """What the service itself answers."""
        answer = getattr(self, f"_{call.method}", None)
        return super().unscripted(call) if answer is None else answer(call)

    def _Generate(self, call: Call) -> Iterator[Any]:  # noqa: N802  # the contract's methods
        generation = self._accept(call.request)
        try:
            yield from generation.events(0, call.is_active)
        finally:
            if call.request.spec.on_disconnect != pb.ON_DISCONNECT_CONTINUE:
                generation.cancel()  # which one that has ended does not notice

    def _CreateGeneration(self, call: Call) -> Any:  # noqa: N802
        return {"generation": self._accept(call.request).message(include_output=False)}

    def _FollowGeneration(self, call: Call) -> Any:  # noqa: N802
        return self._known(call.request).events(call.request.after_sequence_number, call.is_active)

    def _GetGeneration(self, call: Call) -> Any:  # noqa: N802
        return {"generation": self._known(call.request).message(call.request.include_output)}

    def _CancelGeneration(self, call: Call) -> Any:  # noqa: N802
        generation = self._known(call.request)
        generation.cancel()
        return {"generation": generation.message(include_output=False)}

    def _ListGenerations(self, call: Call) -> Any:  # noqa: N802
        messages = [each.message(include_output=False) for each in self.generations.values()]
        wanted = [each for each in messages if call.request.state in (0, each.state)]
        return {"generations": wanted[::-1]}

    def _ListModels(self, call: Call) -> Any:  # noqa: N802
        return {"models": [self._model()]}

    def _GetModel(self, call: Call) -> Any:  # noqa: N802
        self._check_model(call.request.name)
        return {"model": self._model()}

    def _Tokenize(self, call: Call) -> Any:  # noqa: N802
        """A token for each character."""
        texts = [message.content for message in call.request.chat.messages] or [call.request.prompt]
        characters = list("".join(texts))
        ids = [ord(character) for character in characters]
        return {"token_ids": ids, "tokens": characters, "max_model_length": 4096}

    def _Embed(self, call: Call) -> Any:  # noqa: N802
        """A vector that is the same for the same text."""
        dimensions = call.request.dimensions or DIMENSIONS
        return {
            "request_id": call.request.request_id,
            "model": self.model,
            "embeddings": [
                {"values": _vector(text, dimensions), "num_tokens": len(text)}
                for text in call.request.inputs
            ],
            "dimensions": dimensions,
            "usage": {"input_tokens": sum(map(len, call.request.inputs))},
        }

    def _accept(self, request: Any) -> FakeGeneration:
        generation_id = hashlib.sha256(request.request_id.encode()).hexdigest()[:26]
        with self._accepting:
            known = self.generations.get(generation_id)
            if known is not None and request.request_id:
                if known.spec != request.spec:
                    raise Refuse(
                        grpc.StatusCode.ALREADY_EXISTS,
                        f"the request_id {request.request_id!r} was used before with another spec",
                    )
                return known
            self._check_model(request.spec.model)
            steps = self._scripted.popleft() if self._scripted else self._always
            if steps is None:
                raise Refuse(
                    grpc.StatusCode.UNIMPLEMENTED, "no answer is scripted: call will_say() before"
                )
            if isinstance(steps, Refuse):
                raise steps
            made = FakeGeneration(generation_id, request, self.model, steps)
            self.generations[generation_id] = made
            return made

    def _known(self, request: Any) -> FakeGeneration:
        generation = self.generations.get(request.generation_id)
        if generation is None:
            raise not_found(f"there is no generation {request.generation_id!r}")
        return generation

    def _check_model(self, name: str) -> None:
        if name not in ("", self.model):
            raise not_found(f"there is no model named {name!r}; there are: {self.model}")

    def _model(self) -> models_pb.Model:
        return models_pb.Model(
            name=self.model,
            architecture="FakeForCausalLM",
            dtype="float32",
            max_model_length=4096,
            vocab_size=2**20,
            has_chat_template=True,
            default_sampling=pb.Sampling(temperature=0.0),
            num_workers=1,
            tool_format="hermes",
            tasks=[understanding_pb2.TASK_GENERATE, understanding_pb2.TASK_EMBED],
            embedding_dimensions=DIMENSIONS,
        )


def _vector(text: str, dimensions: int) -> bytes:
    numbers = (zlib.crc32(f"{index}{text}".encode()) / 2**32 for index in range(dimensions))
    return struct.pack(f"<{dimensions}f", *numbers)
