"""One worker's try at a claimed job, whatever the job asks for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from miao.v1 import generation_pb2 as pb
from miao_queue.claims import Claim, Crashes, Entry
from miao_worker.attempt_trace import AttemptTrace
from miao_worker.engine.encoder.types import EngineRequest
from miao_worker.engine.types import SequenceOutput

FAILED_PRECONDITION, INTERNAL = 9, 13  # google.rpc.Code


class Answering(Protocol):
    """A part of a job that the engine runs by itself.

    sequence_id: in the engine; another for each stay there.
    end: once it has ended.
    """

    sequence_id: str
    end: pb.Finished | None

    @property
    def runs(self) -> bool:
        """Whether the engine has more to compute."""
        ...


_Answer = TypeVar("_Answer", bound=Answering)


class Attempt(ABC, Generic[_Answer]):
    """A claim, its answers, the entries that the journal should hold, and how it ends.

    Entries are kept until the end, so that a journal which lost its tail can be
    written again.
    """

    answers: Sequence[_Answer]

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.entries: list[Entry] = []
        self.num_tokens = 0  # of the journal
        self.end: pb.Finished | None = None  # without usage and timings
        self.num_steps = 0  # in this stay in the engine
        self.crashes = Crashes(claim.record.crashes, claim.record.crashed_alone)
        self.cached_prompt_tokens = 0
        self.first_token_ms = claim.record.first_token_ms
        self.trace = AttemptTrace(claim)
        self.last_tokens_at: float | None = None  # monotonic; of this attempt

    @property
    def generation_id(self) -> str:
        return self.claim.record.generation_id

    @property
    @abstractmethod
    def num_output_tokens(self) -> int:
        """Tokens of all answers together."""

    @abstractmethod
    def request(self, answer: _Answer) -> EngineRequest:
        """What the engine has to run for an answer, from where that is."""

    @abstractmethod
    def advance(
        self, outputs: Sequence[tuple[_Answer, SequenceOutput]], now_ms: int
    ) -> list[Entry]:
        """Take what the engine brought; the entries that it makes.

        Sets `end` when it is over.
        """

    @abstractmethod
    def entries_from(self, tokens: int) -> list[Entry]:
        """The entries that a journal which ends after so many tokens lacks."""

    @abstractmethod
    def end_early(self, reason: pb.FinishReason) -> None:
        """End before the answers do."""

    @abstractmethod
    def terminal_event(self, finished: pb.Finished) -> bytes:
        """The last entry of the journal, around this end."""

    def fail(self, code: int, message: str) -> None:
        """End with an error; the message is for the caller."""
        self.end_early(pb.FINISH_REASON_ERROR)
        assert self.end is not None
        self.end.error.CopyFrom(pb.GenerationError(code=code, message=message))


AnyAttempt: TypeAlias = Attempt[Any]
