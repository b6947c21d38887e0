"""A real gRPC server in this process, whose answers each test scripts."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from miao.v1 import generation_pb2 as pb
from miao_client.testing import Refuse, ScriptedServer, broken

GENERATION_ID = "gen-1"


class FakeService(ScriptedServer):
    """Scripted in the contract's own events, so that a test may break the contract too."""

    Refuse = Refuse
    generation_id = GENERATION_ID

    def __init__(self) -> None:
        super().__init__()
        self.released = Event()

    def stop(self) -> None:
        """Stop all servers and release what waits."""
        self.released.set()
        super().stop()

    def accepted(self, **fields: Any) -> pb.GenerationEvent:
        fields = {"generation_id": GENERATION_ID, "request_id": "r", "model": "m"} | fields
        return pb.GenerationEvent(accepted=pb.Accepted(seed=7, max_tokens=16, **fields))

    def tokens(self, upto: int, text: str, count: int = 1, attempt: int = 1) -> pb.GenerationEvent:
        """An event of `count` tokens; with several, each has one character but the last."""
        ids = range(upto - count + 1, upto + 1)
        lengths = [1] * (count - 1) + [len(text) - count + 1] if count > 1 else []
        tokens = pb.Tokens(text=text, token_ids=ids, text_lengths=lengths)
        return pb.GenerationEvent(sequence_number=upto, attempt=attempt, tokens=tokens)

    def finished(
        self, upto: int, reason: int = pb.FINISH_REASON_STOP, attempt: int = 1, **fields: Any
    ) -> pb.GenerationEvent:
        usage = pb.Usage(prompt_tokens=3, output_tokens=upto)
        finished = pb.Finished(reason=reason, usage=usage, **fields)
        finished.timings.total.FromMilliseconds(1500)
        return pb.GenerationEvent(sequence_number=upto, attempt=attempt, finished=finished)

    def answer(self, *texts: str) -> list[pb.GenerationEvent]:
        """A whole stream with one token for each text."""
        middle = [self.tokens(number, text) for number, text in enumerate(texts, start=1)]
        return [self.accepted(), *middle, self.finished(len(texts))]

    def generation(self, state: int = pb.GENERATION_STATE_RUNNING, **fields: Any) -> pb.Generation:
        fields = {"generation_id": GENERATION_ID, "request_id": "r", "model": "m"} | fields
        return pb.Generation(state=state, **fields)

    def cut(self) -> None:
        """Within a list of events: the connection breaks here."""
        raise broken()

    def hold(self) -> None:
        """Within a list of events: wait until the test ends or releases."""
        self.released.wait(20)


@pytest.fixture
def service() -> Iterator[FakeService]:
    """The service, not yet serving anywhere."""
    fake = FakeService()
    yield fake
    fake.stop()


@pytest.fixture
def target(service: FakeService) -> str:
    """The address of a server of the service."""
    return service.start()
