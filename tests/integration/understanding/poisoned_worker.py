"""A worker whose engine dies of requests of a certain number of inputs."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

from miao_worker import cli, engine_host

POISON = 13  # a request of so many inputs kills the engine that comes to it


def run_poisoned(connection: Connection[Any, Any], *arguments: Any) -> None:
    """As `engine_host.run`, with an engine that may be poisoned."""
    from miao_worker.engine.encoder import engine, types
    from miao_worker.engine.types import StepOutput

    class PoisonedEngine(engine.EncoderEngine):
        is_poisoned = False

        def add(self, request: types.EngineRequest) -> None:
            assert isinstance(request, types.EncodingRequest)
            self.is_poisoned = self.is_poisoned or len(request.inputs) == POISON
            super().add(request)

        def step(self) -> StepOutput:
            if self.is_poisoned:
                os._exit(9)
            return super().step()

    engine.EncoderEngine = PoisonedEngine  # type: ignore[misc]
    run_engine(connection, *arguments)


run_engine = engine_host.run


def main(arguments: list[str]) -> int:
    """As `cli.main`, with such an engine."""
    engine_host.run = run_poisoned
    return cli.main(arguments)
