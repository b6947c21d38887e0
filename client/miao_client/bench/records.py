"""What the caller of one request has seen."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from miao_client.results import GenerationResult


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a request brought no answer."""

    kind: str  # the status code's name, such as RESOURCE_EXHAUSTED
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """One request; times are seconds of one monotonic clock.

        intended   sent      chunk 0        chunk 1     chunk 2   ended
        ───┼─────────┼───────────┼──────────────┼───────────┼───────┼──▶
           ├── send_delay        ├── gap ───────┤── gap ────┤       │
           ├───────── ttft ──────┤                                  │
           ├───────────────────────── e2e ──────────────────────────┤

    In a closed loop a request is sent when it is intended. In an open loop it is
    intended when its caller came, however late the generator was: what he waited
    counts (no coordinated omission).
    """

    intended: float
    sent: float
    ended: float  # when the stream had ended
    chunk_times: array[float] = field(default_factory=lambda: array("d"))
    chunk_sizes: array[int] = field(default_factory=lambda: array("I"))  # tokens in each
    failed: Failed | None = None
    input_tokens: int = 0
    cached_input_tokens: int = 0  # which the service had computed before
    queued_seconds: float | None = None  # until a worker took it, as the service says
    refusals: int = 0  # after which it was sent again
    attempts: int = 1  # of workers: above 1 when one failed and another went on

    @property
    def output_tokens(self) -> int:
        """The tokens that came."""
        return sum(self.chunk_sizes)

    @property
    def send_delay(self) -> float:
        """How late the generator was."""
        return self.sent - self.intended

    @property
    def ttft(self) -> float | None:
        """Time to first token; None when none came."""
        return self.chunk_times[0] - self.intended if self.chunk_times else None

    @property
    def e2e(self) -> float:
        """Time to the end of the stream."""
        return self.ended - self.intended

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first; None with fewer than two tokens."""
        after_first = self.output_tokens - 1
        return (self.ended - self.chunk_times[0]) / after_first if after_first > 0 else None

    def gaps(self) -> Iterator[float]:
        """The times between tokens that follow each other, one fewer than tokens.

        The tokens of one chunk share the gap before it alike. Those that came
        together with the first one had no gap.
        """
        yield from (0.0 for _ in range(1, self.chunk_sizes[0] if self.chunk_sizes else 0))
        for index in range(1, len(self.chunk_times)):
            size = self.chunk_sizes[index]
            gap = (self.chunk_times[index] - self.chunk_times[index - 1]) / size
            yield from (gap for _ in range(size))


def finished(
    result: GenerationResult,
    intended: float,
    sent: float,
    ended: float,
    chunk_times: array[float],
    chunk_sizes: array[int],
) -> Record:
    """The record of a request that has brought its answer."""
    usage, timings = result.usage, result.timings
    return Record(
        intended=intended,
        sent=sent,
        ended=ended,
        chunk_times=chunk_times,
        chunk_sizes=chunk_sizes,
        input_tokens=usage.prompt_tokens if usage else 0,
        cached_input_tokens=usage.cached_prompt_tokens if usage else 0,
        queued_seconds=timings.queued_seconds if timings else None,
        attempts=result.attempts,
    )
