"""A step that the device has been given."""

from __future__ import annotations

from dataclasses import dataclass

from miao_worker.engine.batch import Batch
from miao_worker.engine.prompt_scores import PromptScores
from miao_worker.engine.sampler import Drawn


@dataclass(frozen=True, slots=True)
class Flight:
    """A step between its launch and the reading of its tokens."""

    batch: Batch
    drawn: Drawn | None  # None: no sequence yields a token
    scores: PromptScores | None  # None: no prompt is scored
    started: float  # seconds, of the engine's clock

    @property
    def is_awaited(self) -> bool:
        """Whether what follows one of its tokens can only be drawn when that is known."""
        return any(
            sequence.sampling.reads_output or sequence.guide is not None
            for sequence in self.batch.sampled
        )

    def begin(self) -> None:
        """Keep the sequences, and what they hold, until `end`."""
        for sequence in self.batch.sequences:
            sequence.num_in_flight += 1

    def expect(self, max_model_length: int) -> None:
        """Let the sequences go on with what this step draws, before it is known."""
        for row, sequence in enumerate(self.batch.sampled):
            if not sequence.has_ended:
                sequence.expect(row)
                sequence.is_stopped = sequence.is_full(max_model_length)

    def end(self) -> None:
        """The step is done."""
        for sequence in self.batch.sequences:
            sequence.num_in_flight -= 1
