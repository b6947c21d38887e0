"""A canary: what callers say and are told, and what they show, comes out nowhere.

Every place where a text could be told is fed with words that occur nowhere else; then all
that the stack has told of itself is searched for them, and for what it answered.
"""

from __future__ import annotations

import contextlib
import signal
from typing import Any
from urllib.request import urlopen

import grpc
import psutil
import pytest

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2
from miao.v1.generation_service_pb2_grpc import GenerationServiceStub
from miao.v1.model_service_pb2_grpc import ModelServiceStub
from miao_client import Client, MiaoError

from .conftest import Collector, Observed

CANARY = "Kanarienvogel 4711 zwitschert"
KEY = "miao_sk_canary_ZwitscherZwitscher"
# Made to be said: words that are one token each, so that what leaks token by token is found too.
SAID, SAID_WORDS = "the quick brown fox jumps", ("quick", "brown")
SCHEMA = f'{{"type": "object", "properties": {{"{CANARY}": {{"type": "integer"}}}}}}'


def specs() -> list[pb.GenerationSpec]:
    """Requests with a canary wherever a caller can put one; most of them are refused."""
    chat = pb.Chat(messages=[pb.ChatMessage(role=pb.ROLE_USER, content=CANARY)])
    tool = pb.Tool(name="ask", description=CANARY, parameters_json_schema=SCHEMA)
    odd = pb.Tool(name="ask", parameters_json_schema=f'{{"type": "{CANARY}"}}')
    return [
        pb.GenerationSpec(prompt=CANARY, max_tokens=9, ignore_eos=True),
        pb.GenerationSpec(chat=chat, max_tokens=9, ignore_eos=True),
        pb.GenerationSpec(prompt=CANARY, stop=[CANARY], max_tokens=9),
        pb.GenerationSpec(prompt=CANARY, stop=[CANARY] * 1000),
        pb.GenerationSpec(prompt=CANARY * 10_000),
        pb.GenerationSpec(prompt=CANARY, max_tokens=9_999_999),
        pb.GenerationSpec(prompt=CANARY, model=CANARY),
        pb.GenerationSpec(chat=chat, tools=[tool]),
        pb.GenerationSpec(chat=chat, tools=[odd]),
        pb.GenerationSpec(prompt=CANARY, bad_words=[CANARY] * 10_000),
        pb.GenerationSpec(
            prompt=CANARY, response_format=pb.ResponseFormat(json_schema=SCHEMA), max_tokens=20
        ),
        pb.GenerationSpec(
            prompt=CANARY,
            response_format=pb.ResponseFormat(choices=pb.Choices(texts=[SAID])),
            max_tokens=20,
        ),
        pb.GenerationSpec(prompt=CANARY, response_format=pb.ResponseFormat(json_schema=CANARY)),
        pb.GenerationSpec(prompt=CANARY, response_format=pb.ResponseFormat(regex=f"({CANARY}")),
    ]


def ask(address: str, spec: pb.GenerationSpec) -> list[Any]:
    """What comes of a request, until it ends or is refused."""
    events = []
    with grpc.insecure_channel(address) as channel:
        stub: Any = GenerationServiceStub(channel)
        shown = [("authorization", f"Bearer {KEY}"), ("x-canary", CANARY)]
        with contextlib.suppress(grpc.RpcError):
            call = stub.Generate(rpc.GenerateRequest(spec=spec), metadata=shown)
            events.extend(response.event for response in call)
    return events


def kill_engine(observed: Observed) -> None:
    (worker,) = (part for part in observed.stack._parts if part.name == "worker")
    children = psutil.Process(worker.process.pid).children(recursive=True)
    next(child for child in children if child.name() == "miao-engine").send_signal(signal.SIGKILL)


def test_what_callers_say_and_show_is_told_nowhere(
    observed: Observed, collector: Collector, client: Client
) -> None:
    answers = [ask(observed.address, spec) for spec in specs()]
    ended = [events for events in answers if events and events[-1].HasField("finished")]
    assert len(ended) >= 4
    assert len(ended) < len(answers)
    stream = client.generate(CANARY, max_tokens=200, ignore_eos=True)
    chunks = iter(stream)
    next(chunks)
    kill_engine(observed)
    said = [chunk.text for chunk in chunks]
    with pytest.raises(MiaoError):
        client.generate([{"role": "tool", "content": CANARY}], max_tokens=4).result()
    ids = client.tokenize(CANARY).token_ids
    trace_id = bytes([3] * 16)
    with grpc.insecure_channel(observed.address) as channel:
        stub: Any = ModelServiceStub(channel)
        parent = [("traceparent", f"00-{trace_id.hex()}-{'1' * 16}-01")]
        stub.Tokenize(model_service_pb2.TokenizeRequest(prompt=CANARY), metadata=parent)
    collector.wait_for(trace_id, "miao/Tokenize")

    told = {part: observed.log(part) for part in ("front", "worker")}
    for part in ("front", "worker"):
        with urlopen(observed.metrics_address(part)) as answer:
            told[f"{part}'s metrics"] = answer.read().decode()
    told["spans"] = collector.all_said()
    texts = ["".join(event.tokens.text for event in events) for events in ended]
    secrets = [CANARY, CANARY[:13], KEY, KEY[8:], "".join(said)[:12], "token_ids"]
    secrets += [text[:8] for text in texts if len(text) >= 8]
    assert SAID in texts
    pieces = [event.tokens.text for events in ended for event in events]
    assert all(any(word in piece for piece in pieces) for word in SAID_WORDS)
    secrets += SAID_WORDS
    outputs = [[i for event in events for i in event.tokens.token_ids] for events in ended]
    assert any(outputs)
    secrets += [str(tokens[:5])[1:-1] for tokens in (list(ids), *outputs) if len(tokens) >= 5]
    for place, text in told.items():
        assert text, place
        for secret in secrets:
            assert secret not in text, place
    assert '"event": "another engine runs' in told["worker"]
    assert "text_completion tiny" in told["spans"]
