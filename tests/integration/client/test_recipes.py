"""The programs in docs/recipes.md run, and do what they say."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tests.certificates import Authority

from miao_client import Client
from miao_client.testing import FakeService, Say, Wait, busy
from miao_client.tools import ToolCallDelta

PAGE = Path(__file__).parents[3] / "docs/recipes.md"
RECIPES = dict(re.findall(r"^## ([^\n]+)\n\n```python\n(.+?)^```", PAGE.read_text(), re.M | re.S))
NEVER = threading.Event()

Run = Callable[..., str]


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as fake:
        yield fake


@pytest.fixture
def run(
    service: FakeService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs the recipe of a title; returns what it printed."""
    monkeypatch.setenv("MIAO_TARGET", service.target)
    monkeypatch.chdir(tmp_path)

    def run(title: str, **changes: str) -> str:
        program = RECIPES[title]
        for old, new in changes.items():
            assert old in program
            program = program.replace(old, new)
        exec(compile(program, title, "exec", dont_inherit=True), {"__name__": "recipe"})
        return capsys.readouterr().out

    return run


def test_every_recipe_is_tried_here() -> None:
    tried = Path(__file__).read_text()
    assert len(RECIPES) >= 10
    assert [title for title in RECIPES if f'run("{title}"' not in tried] == []
    assert len(RECIPES) == PAGE.read_text().count("```python")


def test_stream(service: FakeService, run: Run) -> None:
    service.will_say(" there", " was")
    assert run("Stream an answer") == " there was\n"


def test_chat(service: FakeService, run: Run) -> None:
    service.will_say("Paris", ".")
    service.will_say("Two million.")
    assert run("Chat") == "Paris.\nTwo million.\n"
    messages = service.requests("Generate")[1].spec.chat.messages
    assert [message.content for message in messages][2:] == [
        "Paris.",
        "And how many people live there?",
    ]


def test_structured_output(service: FakeService, run: Run) -> None:
    service.will_say(json.dumps({"kind": "complaint", "urgent": True, "summary": "No signal."}))
    assert run("Structured output") == "complaint True No signal.\n"
    schema = json.loads(service.requests("Generate")[0].spec.response_format.json_schema)
    assert set(schema["properties"]) == {"kind", "urgent", "summary"}


def test_tools(service: FakeService, run: Run) -> None:
    service.will_say(Say(call=ToolCallDelta(0, "call-1", "weather", '{"city": "Oslo"}')))
    service.will_say("Sunny.")
    assert run("Tools") == "Sunny.\n"
    result = service.requests("Generate")[1].spec.chat.messages[-1]
    assert (json.loads(result.content)["city"], result.tool_call_id) == ("Oslo", "call-1")


def test_many(service: FakeService, run: Run) -> None:
    service.always_says("un")
    service.will_refuse(busy(retry_after=0.01))
    lines = run("Many prompts at once").splitlines()
    assert lines == [f"Translate into French: {number} -> un" for number in range(20)]


def test_search(service: FakeService, run: Run) -> None:
    vector = {"num_tokens": 1}
    near, far = b"\0\0\x80\x3f\0\0\0\0", b"\0\0\0\0\0\0\x80\x3f"  # (1, 0) and (0, 1)
    of = [{"values": values, **vector} for values in (near, far, near)]
    service.script("Embed", {"embeddings": of, "dimensions": 2})
    service.script("Embed", {"embeddings": of[:1], "dimensions": 2})
    scores = [{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}]
    service.script("Rerank", {"results": scores})
    assert run("Search") == "0.75 Rome is in Italy.\n0.25 Paris is the capital of France.\n"


def test_deadlines(service: FakeService, run: Run) -> None:
    service.always_says("Well", Wait(NEVER))
    assert run("Deadlines and cancelling") == (
        "Well ... and no more, the time was over\nWell ... and no more, it was cancelled\n"
    )


def test_once(service: FakeService, run: Run) -> None:
    service.will_say("News")
    assert run("Once, whatever happens") == "News\n"
    assert len(service.generations) == 1


def test_a_crash(service: FakeService, run: Run) -> None:
    service.will_say("Once ", "upon ", "a time")
    client = Client(service.target)
    stream = client.generate("Tell me a long story", on_disconnect="continue")
    next(iter(stream))
    Path("generation.json").write_text(
        json.dumps({"id": stream.generation_id, "seen": 1, "text": "Once "})
    )
    client.close()  # all that is left of that process
    assert run("Go on after one's own crash") == "Once upon a time\n"
    assert not Path("generation.json").exists()
    service.will_say("Another")
    assert run("Go on after one's own crash") == "Another\n"


def test_tests(run: Run) -> None:
    assert run("Test your code") == ""


def test_fronts(
    service: FakeService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    identity = authority.server()
    credentials = grpc.ssl_server_credentials([(identity.key, identity.certificate)])
    _, _, port = service.start("localhost:0", credentials).rpartition(":")
    monkeypatch.setenv("SERVICE_TOKEN", "token")
    out = run("Several fronts, TLS and keys", **{"miao.internal:50051": f"localhost:{port}"})
    assert out == "['fake']\n"
    assert service.calls[0].metadata["authorization"] == "Bearer token"


def test_limits(service: FakeService, run: Run) -> None:
    service.will_refuse(busy(retry_after=0.01, limits={"tenant:blue": "8 requests a minute"}))
    service.will_say("Hi")
    day = {"day": "2026-11-28", "model": "fake", "num_requests": 2, "output_tokens": 9}
    service.script("SumUsage", {"sums": [day]})
    assert run("Limits and usage").splitlines() == [
        "['tenant:blue: 8 requests a minute']",
        "3 in, 1 out",
        "2026-11-28 fake 2 requests, 9 tokens",
    ]
