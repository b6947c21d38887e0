"""A front on a real channel, a real Redis, and a worker that says what it is told to.

The worker speaks the queue's own scripts, so that a front meets what it will
meet in life: claims, journals, terminal events.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from redis import Redis
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub
from miao.v1.model_service_pb2_grpc import ModelServiceStub
from miao_queue import cards, connection, events, keys, records, scripts
from miao_service.auth.authenticator import Authenticator
from miao_service.front import Front, running_front
from miao_service.settings import ServiceSettings

MODEL = "tiny"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer() -> Tokenizer:
    """A token for each byte, and two control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    result = Tokenizer(models.BPE({form: i for i, form in enumerate(alphabet)}, []))
    result.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens(
        [AddedToken(text, normalized=False) for text in ("<|im_start|>", "<|im_end|>")]
    )
    return result


def card(name: str = MODEL, **changes: Any) -> ModelCard:
    made = tokenizer()
    result = ModelCard(
        name=name,
        architecture="TinyForCausalLM",
        num_parameters=1,
        dtype="float32",
        max_model_length=4096,
        vocab_size=made.get_vocab_size(),
        tokenizer_json=made.to_str(),
        chat_template=TEMPLATE,
        special_tokens={"eos_token": "<|im_end|>"},
        eos_token_ids=[made.token_to_id("<|im_end|>")],
        default_sampling=pb.Sampling(temperature=0.7, top_p=0.9, top_k=50, min_p=0.0),
    )
    for field, value in changes.items():
        result.ClearField(field)  # type: ignore[arg-type]
        result.MergeFrom(ModelCard(**{field: value}))
    return result


@dataclasses.dataclass
class Claimed:
    """A generation that the worker has taken."""

    generation_id: str
    owner: str
    record: records.Record
    state: dict[bytes, bytes]
    tokens: int
    token_ids: list[int]  # what it has said, or had said before it lost its end


class ScriptedWorker:
    """Takes generations and writes what a test says. Synchronous: tests step it."""

    def __init__(self, url: str, model_card: ModelCard, replica: int = 0) -> None:
        self.redis: Any = connection.connect(url)
        self.name = f"worker-{replica}-of-{model_card.name}"
        self.model = model_card.name
        self.presence = cards.Presence(self.redis, model_card, self.name)
        self._claims = 0
        self._claim, self._append, self._finish = (
            scripts.load(self.redis, name) for name in ("claim", "append", "finish")
        )

    def announce(self, ttl_ms: int = 600_000) -> None:
        self.presence.announce(ttl_ms)

    def claim(self) -> Claimed | None:
        names = keys.queue_names(self.model)
        sources = [word for name in names for word in (name, self.model, "", "")]
        self._claims += 1
        owner = f"{self.name}-{self._claims}"
        reply = self._claim(
            keys=[keys.queue_key(name) for name in names],
            args=[self.name, owner, 60_000, "", 0, *sources],
        )
        if reply is None or reply[0] == b"stale":
            return None
        generation_id = reply[1].decode()
        state = dict(zip(reply[3][::2], reply[3][1::2], strict=True))
        record = records.Record.from_hash(generation_id, state)
        said = events.output(fields[1] for _, fields in reply[4]).token_ids
        return Claimed(generation_id, owner, record, state, record.tokens, list(said))

    async def next(self) -> Claimed:
        """The next generation, as soon as there is one."""
        async with asyncio.timeout(10):
            while (claimed := self.claim()) is None:  # noqa: ASYNC110 - it is in Redis
                await asyncio.sleep(0.005)
        return claimed

    def say(self, claimed: Claimed, *texts: str) -> None:
        """Write one event for each text, a token for each character."""
        for text in texts:
            self.append(claimed, pb.Tokens(text=text, token_ids=map(ord, text)))

    def append(self, claimed: Claimed, tokens: pb.Tokens) -> int:
        count = len(tokens.token_ids)
        if count > 1:
            tokens.text_lengths.extend([1] * count)
        end = claimed.tokens + count
        claimed.token_ids[claimed.tokens :] = tokens.token_ids
        digest = events.digest(claimed.token_ids)
        event = events.tokens(end, claimed.record.attempt, tokens, digest)
        reply = self._append(
            args=[claimed.generation_id, claimed.owner, claimed.tokens, end, event]
        )
        claimed.tokens = end
        return int(reply[1]) if reply else 0

    def finish(self, claimed: Claimed, reason: pb.FinishReason = pb.FINISH_REASON_STOP) -> None:
        finished = records.finished_message(
            claimed.record, reason, claimed.record.accept_ms + 5, output_tokens=claimed.tokens
        )
        event = events.finished(claimed.tokens, claimed.record.attempt, finished)
        code, _ = self._finish(
            args=[
                *(claimed.generation_id, claimed.owner, claimed.tokens, event),
                *(finished.SerializeToString(), claimed.record.retention_seconds),
                records.usage_text(finished, has_run=True),
            ]
        )
        assert code == 0, code

    async def answer(self, *texts: str) -> Claimed:
        claimed = await self.next()
        self.say(claimed, *texts)
        self.finish(claimed)
        return claimed


class Stubs:
    """The generated stubs over one channel."""

    def __init__(self, channel: Any, front: Front, port: int) -> None:
        self.channel = channel
        self.front = front
        self.port = port
        self.generations: Any = GenerationServiceStub(channel)
        self.models: Any = ModelServiceStub(channel)


FrontFactory = Callable[..., contextlib.AbstractAsyncContextManager[Stubs]]


@pytest.fixture
def worker(redis_url: str) -> Iterator[ScriptedWorker]:
    made = ScriptedWorker(redis_url, card())
    made.announce()
    yield made
    made.redis.close()


@pytest.fixture
def make_worker(redis_url: str) -> Iterator[Callable[..., ScriptedWorker]]:
    made = []

    def make(name: str, replica: int = 0, **changes: Any) -> ScriptedWorker:
        made.append(ScriptedWorker(redis_url, card(name, **changes), replica))
        return made[-1]

    yield make
    for each in made:
        each.redis.close()


@pytest.fixture
def start_front(redis_url: str) -> FrontFactory:
    """Starts a front of its own with settings of its own."""

    @contextlib.asynccontextmanager
    async def start(
        authenticator: Authenticator | None = None, **changes: Any
    ) -> AsyncIterator[Stubs]:
        values: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "redis_url": redis_url,
            "drain_seconds": 0.2,
            "refresh_seconds": 0.05,
            "audit_entries": 0,  # tests look at what else is in Redis
        }
        settings = ServiceSettings(**(values | changes))
        async with contextlib.AsyncExitStack() as stack:
            front, port = await stack.enter_async_context(running_front(settings, authenticator))
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            yield Stubs(await stack.enter_async_context(channel), front, port)

    return start


@pytest.fixture
async def front(start_front: FrontFactory, worker: ScriptedWorker) -> AsyncIterator[Stubs]:
    """A front with a live worker."""
    async with start_front() as stubs:
        yield stubs


class Refusal:
    """How a call was refused."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.message = error.details() or ""
        metadata = dict(error.trailing_metadata() or ())
        self.status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])

    def detail(self, kind: Any) -> Any:
        message = kind()
        assert any(packed.Unpack(message) for packed in self.status.details), kind
        return message

    @property
    def fields(self) -> list[str]:
        return [v.field for v in self.detail(error_details_pb2.BadRequest).field_violations]

    @property
    def reason(self) -> str:
        return str(self.detail(error_details_pb2.ErrorInfo).reason)


async def _to_the_end(call: Any) -> None:
    if not hasattr(call, "__aiter__"):
        await call
        return
    async for _ in call:
        pass


@pytest.fixture
def refused() -> Callable[[Any], Any]:
    """Awaits a call, or reads a stream, that must be refused."""

    async def read(call: Any) -> Refusal:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(_to_the_end(call), 15)
        return Refusal(caught.value)

    return read


@pytest.fixture
def database(redis_url: str) -> Iterator[Any]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until a condition holds."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - it may be in another process
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def as_text() -> Callable[[Any], str]:
    """The text of a list of responses."""
    return lambda responses: "".join(response.event.tokens.text for response in responses)


READY = "front listening on 127.0.0.1:"


class Process:
    """A front in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 15)


@contextlib.asynccontextmanager
async def _front_process(redis_url: str, *arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "miao_service", "--listen", "127.0.0.1:0", *arguments),
        env=os.environ | {"REDIS_URL": redis_url, "MIAO_DRAIN_SECONDS": "0.5"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()
        assert line.startswith(READY), line
        yield Process(process, int(line.removeprefix(READY)))
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@pytest.fixture
def start_process(redis_url: str) -> Callable[..., Any]:
    """Starts a front as a process with arguments of its own."""
    return functools.partial(_front_process, redis_url)
