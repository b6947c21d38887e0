"""A worker whose engine dies of prompts that hold a certain token."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

from miao_worker import cli, engine_host

POISON = 77  # a prompt that holds this token kills the engine in its second step


def run_poisoned(connection: Connection[Any, Any], *arguments: Any) -> None:
    """As `engine_host.run`, with an engine that may be poisoned."""
    from miao_worker.engine import engine, types
    from miao_worker.engine.tensor_parallel import loading

    class PoisonedEngine(engine.Engine):
        num_poisoned_steps = 0
        is_poisoned = False

        def add(self, request: types.SequenceRequest) -> None:
            self.is_poisoned = self.is_poisoned or POISON in request.prompt_token_ids
            super().add(request)

        def step(self) -> types.StepOutput:
            self.num_poisoned_steps += self.is_poisoned
            if self.num_poisoned_steps == 2:
                os._exit(9)
            return super().step()

    loading.Engine = PoisonedEngine  # type: ignore[misc]
    run_engine(connection, *arguments)


run_engine = engine_host.run


def main(arguments: list[str]) -> int:
    """As `cli.main`, with such an engine."""
    engine_host.run = run_poisoned
    return cli.main(arguments)
