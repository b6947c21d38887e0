"""What a worker needs of an engine, whichever it is: the boundary of the house.

    worker's process                     engine's process (engine_host.py)
    EngineProcess ── Add, Cancel … ──►   add, cancel      ─┐
                  ◄── Step ──────────    step()  ◄─────────┘ while has_unfinished

The types that cross it are plain frozen data: `engine.types`, `engine.encoder.types` and
`engine.explain.types`. An engine knows token ids alone: no text, no queue, no network.
docs/engines.md says in words what is promised here, tests/conformance tries it on each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.types import StepOutput


class EngineSettings(Protocol):
    """What the worker reads of an engine's settings.

    They are frozen, and picklable without anything that takes long to import: they go to
    the engine's process.
    """

    @property
    def model(self) -> str:
        """A Hugging Face name or a folder."""
        ...

    @property
    def max_sequences(self) -> int:
        """Sequences in one batch; the worker claims no more than that."""
        ...

    @property
    def max_adapters(self) -> int:
        """Adapters in memory; 0 where none are served."""
        ...

    @property
    def speculates(self) -> bool:
        """Whether tokens are proposed, so that counting them makes sense."""
        ...


class ServingEngine(Protocol):
    """Runs what was added until each has ended or is cancelled. Used by one thread.

    It exists once its model is loaded and warm. It is ended by killing its process, at any
    moment: nothing that it started may outlive that. After an exception from `step` its state
    is lost; another is made, and gets the sequences with the tokens that they have.
    """

    @property
    def has_unfinished(self) -> bool:
        """Whether another step has anything to do or to report."""
        ...

    def add(self, request: EngineRequest) -> None:
        """Queue a request. One that cannot run ends with ERROR in a later step.

        `SequenceRequest.output_token_ids` were said before: what comes goes on behind them, and
        is what would have come without the interruption, up to the rounding of logits.
        Returns soon; raises ValueError for an id that is already here, and nothing else.
        """
        ...

    def cancel(self, sequence_id: str) -> None:
        """Take a request out, and free what it held by the next step.

        Nothing more is reported of it. What is not here is ignored.
        """
        ...

    def step(self) -> StepOutput:
        """Advance what runs; what it brought, with the engine's fill.

        A sequence's tokens come in their order, each once; prompt scores come before the first
        of them; its last output, and no other, has a finish reason. Prompt tokens that were
        found computed are told with the first token. May bring nothing, but not for long:
        an engine that is silent for the worker's step timeout is replaced.
        """
        ...

    def register_adapter(self, adapter_id: str, folder: Path) -> None:
        """Learn of an adapter, which requests may name then.

        Raises AdapterError where it cannot be served.
        """
        ...

    def drop_adapter(self, adapter_id: str) -> None:
        """Let go of an adapter's memory once nothing that runs uses it."""
        ...
