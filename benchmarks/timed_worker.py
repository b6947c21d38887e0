"""A worker, run as a program, whose model computes nothing and takes the time a formula says.

The engine is the real one, with its scheduler, blocks and sampler; only the model is replaced,
by a wait. So several workers on one small machine behave as several machines would. Takes the
options of `miao worker`; MIAO_STEP_TIME is the step's formula as JSON, see docs/planning.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from miao_client.plan.step_time import StepTime, StepWork
from miao_worker import cli, engine_host
from miao_worker.engine.batch import Batch
from miao_worker.engine.engine import Engine


class TimedRunner:
    """The engine's `ModelRunner`: ends each step when its time is over, not before.

    The time counts from the step before, so that what the engine does between two is part of it.
    """

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, step: StepTime, vocab_size: int, num_blocks: int, max_length: int) -> None:
        self.vocab_size = vocab_size
        self.num_blocks = num_blocks
        self.max_model_length = max_length
        self._step = step
        self._ended = 0.0

    def run(self, batch: Batch) -> torch.Tensor:
        """Wait; the likeliest token is always the same."""
        now, seconds = time.perf_counter(), self._step.seconds(work_of(batch))
        # A pause as long as a step means that there was nothing to do in between.
        begun = self._ended if now - self._ended < seconds else now
        time.sleep(max(0.0, begun + seconds - now))
        self._ended = max(begun + seconds, now)
        logits = torch.zeros(len(batch.sampled), self.vocab_size)
        logits[:, 300] = 1.0
        return logits

    def erase(self, blocks: Sequence[int]) -> None:
        """There is nothing in them."""


def work_of(batch: Batch) -> StepWork:
    """What a batch computes, as the planner counts it."""
    prefills = batch.prefills
    return StepWork(
        rows=len(batch.decodes),
        context=sum(sequence.num_tokens for sequence in batch.decodes),
        chunks=len(prefills),
        prompt_tokens=sum(prefill.num_tokens for prefill in prefills),
        pairs=sum(p.num_tokens * (p.start + (p.num_tokens + 1) / 2) for p in prefills),
    )


def run_timed(connection: Connection[Any, Any], *arguments: Any) -> None:
    """As `engine_host.run`, with a timed model under the real one's card."""
    load = engine_host._load
    torch.set_num_threads(1)

    def load_timed(config: Any, *options: Any) -> Any:
        explaining, card = load(config, *options)
        real = explaining.inner
        step = StepTime(**json.loads(os.environ["MIAO_STEP_TIME"]))
        runner = TimedRunner(step, real.vocab_size, real.num_blocks, real.max_model_length)
        return Engine(config, runner), card

    engine_host._load = load_timed
    run_engine(connection, *arguments)


run_engine = engine_host.run

if __name__ == "__main__":
    engine_host.run = run_timed
    sys.exit(cli.main(sys.argv[1:]))
