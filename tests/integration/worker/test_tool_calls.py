"""Calls of functions in journals, also where the worker or its engine dies within one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from miao.internal.v1.queue_pb2 import AnswerForm, ReasoningFormat
from miao.v1 import generation_pb2 as pb
from miao.v1.generation_service_pb2 import GenerateResponse
from miao_queue import events
from miao_worker.tool_formats import FORMATS

from . import scripted_worker
from .conftest import Queue, Worker

FORM = AnswerForm(
    reasoning=ReasoningFormat(start="<think>", end="</think>"),
    tools=FORMATS["hermes"],
    tool_names=["remind", "weather"],
)
ARGUMENTS = {"text": "the quick brown fox 春天 " * 4, "times": list(range(12))}
SAID = (
    "<think>\nthe lazy dog\n</think>\n\nI will.\n<tool_call>\n"
    + json.dumps({"name": "remind", "arguments": ARGUMENTS}, ensure_ascii=False)
    + '\n</tool_call>\n<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>'
)


def submit(queue: Queue, tiny_model: Path) -> tuple[str, int]:
    """A generation whose answer is its prompt; and how many tokens that has."""
    prompt = AutoTokenizer.from_pretrained(tiny_model).encode(SAID)
    return queue.submit(prompt, max_tokens=len(prompt), answer_form=FORM), len(prompt)


def check(queue: Queue, generation_id: str) -> list[tuple[int, pb.Part]]:
    """The answer as a journal's reader has it; returns each part with its token's number."""
    found = queue.events(generation_id)
    responses = [GenerateResponse(event=event) for event in found]
    output = events.output([response.SerializeToString() for response in responses])
    assert output.text == "I will."
    assert output.reasoning == "the lazy dog"
    assert [call.name for call in output.tool_calls] == ["remind", "weather"]
    assert json.loads(output.tool_calls[0].arguments_json) == ARGUMENTS
    assert output.tool_calls[1].arguments_json == "{}"
    assert len({call.id for call in output.tool_calls}) == 2
    parts = []
    for event in found:
        first = event.sequence_number - len(event.tokens.token_ids)
        parts += [(first + part.token_index, part) for part in event.tokens.parts]
        for part in event.tokens.parts:
            part.token_index = 0
    return parts


@pytest.mark.parametrize("victim", ["engine", "worker"])
def test_a_call_goes_on_where_it_was_when_its_worker_dies(
    queue: Queue, start_worker: Callable[..., Worker], tiny_model: Path, victim: str
) -> None:
    options = ("--lease-seconds", "0.6")
    worker = start_worker(*options, main=scripted_worker.main)
    worker.wait_ready()
    undisturbed, num_tokens = submit(queue, tiny_model)
    queue.wait_finished(undisturbed)
    expected = check(queue, undisturbed)
    disturbed, _ = submit(queue, tiny_model)
    queue.wait(disturbed, lambda record: record.tokens > 60)
    if victim == "engine":
        os.kill(worker.engine_pid(), signal.SIGKILL)
    else:
        os.killpg(worker.process.pid, signal.SIGKILL)
        start_worker(*options, main=scripted_worker.main)
    record = queue.wait_finished(disturbed)
    assert 60 < num_tokens == record.tokens
    assert check(queue, disturbed) == expected
    attempts = {event.attempt for event in queue.events(disturbed)}
    assert attempts == ({1} if victim == "engine" else {1, 2})
