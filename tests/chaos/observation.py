"""What one caller saw of one generation, and what is wrong with it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from miao_client import FinishReason, GenerationResult, TokenLogprobs

from .specs import Spec

_LOGPROB_TOLERANCE = 1e-3


class Fault(StrEnum):
    """How a promise was broken."""

    LOST = "lost"  # tokens, or the end, never came
    REPEATED = "repeated"  # tokens came again
    DIFFERENT = "different"  # other tokens, or another end, than undisturbed
    ERROR = "error"  # the caller got an exception, or an end by an error


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise, at a time of the monotonic clock."""

    fault: Fault
    text: str
    at: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a spec says undisturbed."""

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[TokenLogprobs, ...]
    reason: FinishReason | None
    stopped_by: str | int | None

    @classmethod
    def of(cls, result: GenerationResult) -> Expected:
        return cls(
            result.token_ids,
            result.text,
            result.logprobs,
            result.finish_reason,
            result.stopped_by,
        )


@dataclass(slots=True)
class Observation:
    """A generation from its caller's side. Times are of the monotonic clock.

    expected: None in the undisturbed run itself.
    arrivals: when each event with tokens, and the end, came.
    departures: those arrivals after which the caller went away for a while by itself.
    takeovers: when it was first seen that another worker, or the same one anew, went on.
    goes_away: whether the caller leaves before the end and may find it cancelled.
    """

    spec: Spec
    behaviour: str
    expected: Expected | None
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    generation_id: str | None = None
    attempts: int = 0
    seen: int = 0
    token_ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    departures: set[float] = field(default_factory=set)
    takeovers: list[float] = field(default_factory=list)
    was_cancelled: bool = False
    ran_on: bool = False  # though its caller went away and wanted it cancelled
    violations: list[Violation] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def blame(self, fault: Fault, text: str) -> None:
        self.violations.append(Violation(fault, text))

    def depart(self) -> None:
        """The caller goes away, to come back: what it does not see is no silence."""
        self.departures.update(self.arrivals[-1:])

    def silences(self) -> Iterator[tuple[float, float]]:
        """From when to when nothing came, each time, while the caller was there."""
        for began, ended in pairwise(self.arrivals):
            if began not in self.departures:
                yield began, ended

    def note_attempt(self, attempt: int) -> None:
        """The attempt that what came is of."""
        if attempt > self.attempts > 0:
            self.takeovers.append(time.monotonic())
        self.attempts = max(self.attempts, attempt)

    def take(
        self,
        sequence_number: int,
        token_ids: Sequence[int],
        text: str,
        logprobs: Sequence[TokenLogprobs] = (),
    ) -> None:
        """Add what came; it must begin where the last one ended."""
        self.arrivals.append(time.monotonic())
        first = sequence_number - len(token_ids)
        if first > self.seen:
            self.blame(Fault.LOST, f"tokens {self.seen + 1} to {first} did not come")
        elif first < self.seen:
            self.blame(Fault.REPEATED, f"tokens {first + 1} to {self.seen} came again")
        self.seen = sequence_number
        self.token_ids.extend(token_ids)
        self.texts.append(text)
        self.logprobs.extend(logprobs)

    def finish(self) -> None:
        """The terminal event came."""
        self.ended = time.monotonic()
        self.arrivals.append(self.ended)

    def compare_result(self, result: GenerationResult) -> None:
        """Hold the SDK's own sum against the chunks, and both against the undisturbed run."""
        if (list(result.token_ids), result.text) != (self.token_ids, self.text):
            self.blame(Fault.DIFFERENT, "the result is not the sum of the chunks")
        self.attempts = result.attempts
        self.compare_whole(result.finish_reason, result.stopped_by)
        if result.usage is not None and result.usage.output_tokens != len(self.token_ids):
            self.blame(Fault.DIFFERENT, f"usage says {result.usage.output_tokens} tokens")

    def compare_whole(self, reason: FinishReason | None, stopped_by: str | int | None) -> None:
        """Hold a generation that ran to its end against the undisturbed run."""
        if (expected := self.expected) is None:
            return
        self._compare_tokens(expected)
        if self.text != expected.text:
            self.blame(Fault.DIFFERENT, "the text differs")
        if (reason, stopped_by) != (expected.reason, expected.stopped_by):
            end = f"{reason} by {stopped_by!r} instead of {expected.reason}"
            self.blame(Fault.DIFFERENT, f"it ended with {end} by {expected.stopped_by!r}")
        if not _alike(self.logprobs, expected.logprobs):
            self.blame(Fault.DIFFERENT, "the log-probabilities differ")

    def compare_part(self) -> None:
        """Hold the beginning that came against the undisturbed run."""
        if (expected := self.expected) is None:
            return
        if tuple(self.token_ids) != expected.token_ids[: len(self.token_ids)]:
            self._compare_tokens(expected)
        elif not expected.text.startswith(self.text):
            self.blame(Fault.DIFFERENT, "the text differs")

    def _compare_tokens(self, expected: Expected) -> None:
        got, wanted = tuple(self.token_ids), expected.token_ids
        if got == wanted:
            return
        pairs = enumerate(zip(got, wanted, strict=False))
        place = next((i for i, (ours, theirs) in pairs if ours != theirs), None)
        if place is not None:
            here = f"{got[place : place + 4]} instead of {wanted[place : place + 4]}"
            self.blame(Fault.DIFFERENT, f"token {place + 1} of {len(wanted)} differs: {here}")
        else:
            fault = Fault.LOST if len(got) < len(wanted) else Fault.REPEATED
            self.blame(fault, f"{len(got)} tokens instead of {len(wanted)}")


def _alike(ours: Sequence[TokenLogprobs], theirs: Sequence[TokenLogprobs]) -> bool:
    return len(ours) == len(theirs) and all(
        math.isclose(a.logprob, b.logprob, abs_tol=_LOGPROB_TOLERANCE) and len(a.top) == len(b.top)
        for a, b in zip(ours, theirs, strict=True)
    )
