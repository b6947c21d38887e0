"""An engine in a process of its own, which may end at any moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from miao_worker.engine.protocol import EngineSettings
from miao_worker.engine.types import FinishReason, SequenceRequest
from miao_worker.engine_process import EngineDiedError, EngineProcess

from .conftest import Said, prompt_of, request_of


@pytest.fixture
def process(settings: Any) -> Iterator[EngineProcess]:
    process = EngineProcess(settings, "tiny", step_timeout_seconds=60)
    process.start()
    yield process
    process.kill()


def receive(process: EngineProcess, said: dict[str, Said], num_tokens: int) -> None:
    """Until each has so many tokens, or has ended."""
    while any(each.reason is None and len(each.token_ids) < num_tokens for each in said.values()):
        for step in process.receive(5.0, is_busy=True):
            for output in step.outputs:
                mine = said[output.sequence_id]
                mine.token_ids += output.token_ids
                mine.reason = output.finish_reason


def test_an_engine_that_is_killed_amid_its_work_leaves_nothing_and_another_goes_on(
    process: EngineProcess, settings: EngineSettings
) -> None:
    requests = {
        str(i): request_of(str(i), prompt_of(i, 6), seed=i, temperature=1.0, max_tokens=60)
        for i in range(4)
    }
    whole = _say(process, requests)
    assert {each.reason for each in whole.values()} == {FinishReason.LENGTH}
    said = {name: Said() for name in requests}
    for request in requests.values():
        process.add(request)
    receive(process, said, 5)
    assert process.pid is not None
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineDiedError):
        receive(process, said, 1000)
    _, alive = psutil.wait_procs(family[1:], timeout=10)
    assert not alive
    process.restart()
    rest = {
        name: replace(requests[name], output_token_ids=tuple(each.token_ids))
        for name, each in said.items()
        if each.reason is None
    }
    assert rest
    for name, each in _say(process, rest).items():
        said[name].token_ids += each.token_ids
    assert {name: each.token_ids for name, each in said.items()} == {
        name: each.token_ids for name, each in whole.items()
    }


def _say(process: EngineProcess, requests: dict[str, SequenceRequest]) -> dict[str, Said]:
    said = {name: Said() for name in requests}
    for request in requests.values():
        process.add(request)
    receive(process, said, 1000)
    return said
