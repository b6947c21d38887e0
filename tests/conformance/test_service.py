"""The guarantees through the whole service, whichever engines its workers have."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from transformers import PreTrainedModel

from miao_client import (
    Client,
    ExplainMethod,
    FinishReason,
    GenerationCancelledError,
    GenerationFailedError,
    InvalidRequestError,
    JsonSchema,
)
from miao_worker.stack import Stack, StackSettings
from tests.forked_worker import ForkingStack

from .conftest import HAS_VLLM, NO_VLLM, greedy, prompt_of

CONTEXT = 512
COMMON = ["--name", "tiny", "--dtype", "float32", "--num-threads", "1", "--cache-gib", "0.01"]
COMMON += ["--lease-seconds", "1"]
OPTIONS = {
    "miao": ["--device", "cpu", "--no-cpu-kernels"],  # else it is over before anything can die
    "vllm": ["--engine", "vllm", "--vllm-option", "enforce_eager=true"],
}
# Who works, and who goes on when the first is killed.
PAIRS = ["miao-miao", "vllm-vllm", "vllm-miao", "miao-vllm"]


@pytest.fixture(scope="module", params=PAIRS)
def stack(request: pytest.FixtureRequest, model_folder: Path) -> Iterator[Stack]:
    kinds = str(request.param).split("-")
    if "vllm" in kinds and not HAS_VLLM:
        pytest.skip(NO_VLLM)
    first, second = (["--model", str(model_folder), *COMMON, *OPTIONS[kind]] for kind in kinds)
    settings = StackSettings("127.0.0.1:0", first, more_workers=[second])
    stack = (Stack if "vllm" in kinds else ForkingStack)(settings, lambda *_: None)
    stack.start()
    yield stack
    stack.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    with Client(stack.address) as client:
        yield client


@dataclass
class Reader:
    """Follows one generation in a thread, and looks at the clock."""

    client: Client
    options: dict[str, Any]
    prompt: tuple[int, ...]
    token_ids: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    has_begun: threading.Event = field(default_factory=threading.Event)
    result: Any = None

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self.read)
        thread.start()
        return thread

    def read(self) -> None:
        stream = self.client.generate(list(self.prompt), **self.options)
        for chunk in stream:
            self.token_ids += chunk.token_ids
            assert chunk.sequence_number == len(self.token_ids)
            self.times.append(time.monotonic())
            if len(self.token_ids) >= 5:
                self.has_begun.set()
        self.result = stream.result()

    @property
    def gap_seconds(self) -> float:
        """The longest silence."""
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False))


def test_answers_are_the_models_and_usage_is_exact(client: Client, model: PreTrainedModel) -> None:
    readers = [
        Reader(client, {"max_tokens": n, "temperature": 0, "ignore_eos": True}, prompt_of(n, 9))
        for n in range(20, 26)
    ]
    for thread in [reader.start() for reader in readers]:
        thread.join()
    for num_tokens, reader in enumerate(readers, start=20):
        assert reader.token_ids == greedy(model, reader.prompt, num_tokens)
        assert reader.result.finish_reason is FinishReason.LENGTH
        usage = reader.result.usage
        assert (usage.prompt_tokens, usage.output_tokens) == (9, num_tokens)


def test_a_stop_text_ends_an_answer(client: Client) -> None:
    whole = client.generate("the quick", temperature=0, max_tokens=30, ignore_eos=True).result()
    stop = whole.text[10:12]
    said = client.generate(
        "the quick", temperature=0, max_tokens=30, ignore_eos=True, stop=stop
    ).result()
    assert said.finish_reason is FinishReason.STOP
    assert said.text == whole.text[: whole.text.index(stop)]


def test_several_answers_are_what_their_seeds_say(client: Client) -> None:
    options: dict[str, Any] = {"temperature": 1.0, "max_tokens": 12, "ignore_eos": True}
    both = client.generate("the lazy", n=2, seed=3, logprobs=1, **options).result().answers
    for answer in both:
        assert answer.ending is not None
        alone = client.generate("the lazy", seed=answer.ending.seed, **options).result()
        assert alone.token_ids == answer.token_ids


def test_a_text_is_scored(client: Client) -> None:
    score = client.score("jumps over the dog", prompt="the quick brown fox")
    assert score.log_likelihood < 0
    assert score.num_scored_tokens == len(score.tokens)


def test_a_form_is_followed(client: Client) -> None:
    form = JsonSchema({"type": "object", "properties": {"a": {"type": "boolean"}}})
    result = client.generate(
        "x", response_format=form, temperature=1.0, seed=2, max_tokens=60
    ).result()
    assert result.text.strip().startswith("{")
    assert result.finish_reason is FinishReason.STOP


def test_what_a_model_is_not_for_is_refused_at_the_front(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="tiny"):
        client.embed(["a"])


def test_an_answer_is_explained_in_the_ways_that_the_engines_have(
    request: pytest.FixtureRequest, client: Client
) -> None:
    explanation = client.explain("the quick brown fox", max_tokens=2)
    assert explanation.method is ExplainMethod.LEAVE_ONE_OUT
    assert len(explanation.attributions) == 2
    assert any(explanation.attributions[0].scores)
    if "vllm-vllm" in request.node.name:
        with pytest.raises(InvalidRequestError, match="method"):
            client.explain("the quick", max_tokens=2, method=ExplainMethod.GRADIENT_X_INPUT)


def test_a_cancel_ends_it_soon_and_makes_room(client: Client) -> None:
    created = client.create([5, 6, 7], n=16, max_tokens=480, temperature=1.0, ignore_eos=True)
    stream = client.follow(created.generation_id)
    chunks = iter(stream)
    next(chunks)
    client.cancel(created.generation_id)
    with pytest.raises(GenerationCancelledError):
        stream.result()
    _wait_until_idle(client)
    assert len(client.generate([5, 6, 7], max_tokens=3, ignore_eos=True).result().token_ids) == 3


def test_a_deadline_ends_what_runs(client: Client) -> None:
    """Sixty-four answers at once take longer than this."""
    streams = [
        client.generate([5 + i], n=16, max_tokens=500, timeout=0.4, ignore_eos=True, temperature=1)
        for i in range(4)
    ]
    for stream in streams:
        with pytest.raises(Exception) as caught:  # noqa: PT011  of either kind, as it came
            stream.result()
        assert "deadline" in repr(caught.value).lower()
        assert not isinstance(caught.value, GenerationFailedError)
    _wait_until_idle(client)


def test_the_answers_of_a_worker_that_is_killed_go_on_at_the_other(
    stack: Stack, client: Client, model: PreTrainedModel, record_property: Any
) -> None:
    """Greedy, sampled, penalised and in a form: as if nothing had happened."""
    asked: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 0.9, "top_p": 0.9, "seed": 8, "repetition_penalty": 1.2},
        {"temperature": 1.0, "seed": 9, "response_format": JsonSchema({"type": "array"})},
    ]
    for options in asked:
        options |= {"max_tokens": 450}
        if "response_format" not in options:
            options |= {"ignore_eos": True}
    first, second = [part.process.pid for part in stack._parts if part.name == "worker"]
    other = psutil.Process(second)
    other.suspend()  # so that the first has them all
    try:
        readers = [Reader(client, options, prompt_of(i, 7)) for i, options in enumerate(asked)]
        threads = [reader.start() for reader in readers]
        for reader in readers[:3]:
            assert reader.has_begun.wait(60)
        os.kill(first, signal.SIGKILL)
    finally:
        other.resume()
    for thread in threads:
        thread.join()
    gaps = [reader.gap_seconds for reader in readers[:3]]
    assert min(gaps) > 0.5, "they were over before their worker was"
    record_property("gaps", gaps)
    print("gaps", [f"{gap:.2f}" for gap in gaps])
    undisturbed = [Reader(client, options, prompt_of(i, 7)) for i, options in enumerate(asked)]
    for thread in [reader.start() for reader in undisturbed]:
        thread.join()
    for reader, expected in zip(readers, undisturbed, strict=True):
        assert reader.token_ids == expected.token_ids
        assert reader.result.finish_reason is expected.result.finish_reason
        assert reader.result.usage.output_tokens == len(expected.token_ids)
    assert readers[0].token_ids == greedy(model, readers[0].prompt, 450)


def _wait_until_idle(client: Client) -> None:
    deadline = time.monotonic() + 20
    while any(worker.num_generations for worker in client.fleet().workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
