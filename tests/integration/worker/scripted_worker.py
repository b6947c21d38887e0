"""A worker whose model says its prompt, token by token."""

from __future__ import annotations

import dataclasses
from multiprocessing.connection import Connection
from typing import Any

from miao_worker import cli, engine_host


def run_scripted(connection: Connection[Any, Any], *arguments: Any) -> None:
    """As `engine_host.run`, with an engine whose tokens are replaced by those of the prompt."""
    from miao_worker.engine import engine, types
    from miao_worker.engine.tensor_parallel import loading

    class ScriptedEngine(engine.Engine):
        def add(self, request: types.SequenceRequest) -> None:
            begun = len(request.output_token_ids)
            self.__dict__.setdefault("scripts", {})[request.sequence_id] = iter(
                request.prompt_token_ids[begun:]
            )
            super().add(request)

        def step(self) -> types.StepOutput:
            step = super().step()
            return dataclasses.replace(step, outputs=tuple(map(self.scripted, step.outputs)))

        def scripted(self, output: types.SequenceOutput) -> types.SequenceOutput:
            script = self.__dict__["scripts"][output.sequence_id]
            return dataclasses.replace(
                output, token_ids=tuple(next(script) for _ in output.token_ids)
            )

    loading.Engine = ScriptedEngine  # type: ignore[misc]
    run_engine(connection, *arguments)


run_engine = engine_host.run


def main(arguments: list[str]) -> int:
    """As `cli.main`, with such an engine."""
    engine_host.run = run_scripted
    return cli.main(arguments)
