"""A worker, run as a program, whose engine yields a token for each sequence at a pace.

It computes nothing, so what a run costs is the service's: pipe, journals, front, caller.
Takes the options of `miao worker`; MIAO_PACE_MS is the time of a step.
"""

from __future__ import annotations

import os
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from miao_worker import cli, engine_host
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SequenceOutput,
    SequenceRequest,
    StepOutput,
)

_FIRST_TOKEN, _NUM_TOKENS = 300, 3000  # letters and words of every vocabulary used here


class PacedEngine:
    """Says tokens that follow from a sequence's id, one in each step."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._running: dict[str, tuple[int, int, int]] = {}  # begin, said, most
        self._num_steps = 0
        self._due = 0.0

    @property
    def has_unfinished(self) -> bool:
        return bool(self._running)

    def add(self, request: SequenceRequest) -> None:
        begin = sum(request.prompt_token_ids[:8])
        said, most = len(request.output_token_ids), request.sampling.max_tokens
        self._running[request.sequence_id] = (begin, said, most)

    def cancel(self, sequence_id: str) -> None:
        self._running.pop(sequence_id, None)

    def step(self) -> StepOutput:
        """Wait for the beat; one that was missed is not made up for."""
        now = time.perf_counter()
        if self._due > now:
            time.sleep(self._due - now)
        self._due = max(now, self._due) + self._step_seconds
        self._num_steps += 1
        outputs = tuple(map(self._say, list(self._running)))
        return StepOutput(outputs, EngineStats(len(self._running), num_steps=self._num_steps))

    def _say(self, sequence_id: str) -> SequenceOutput:
        begin, said, most = self._running[sequence_id]
        token_id = _FIRST_TOKEN + (begin + said * 7919) % _NUM_TOKENS
        self._running[sequence_id] = (begin, said + 1, most)
        reason = FinishReason.LENGTH if said + 1 == most else None
        if reason is not None:
            del self._running[sequence_id]
        return SequenceOutput(
            sequence_id, (token_id,), finish_reason=reason, num_cached_tokens=None if said else 0
        )


def run_paced(connection: Connection[Any, Any], *arguments: Any) -> None:
    """As `engine_host.run`, with a paced engine under the model's card."""
    load = engine_host._load

    def load_paced(*options: Any) -> Any:
        _, card = load(*options)
        return PacedEngine(float(os.environ["MIAO_PACE_MS"]) / 1000), card

    engine_host._load = load_paced
    run_engine(connection, *arguments)


run_engine = engine_host.run

if __name__ == "__main__":
    engine_host.run = run_paced
    sys.exit(cli.main(sys.argv[1:]))
