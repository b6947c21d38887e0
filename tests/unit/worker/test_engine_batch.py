"""An engine's deaths: all goes on, and whoever causes them is found and ended alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import chain, cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue.claims import Claim, Crashes
from miao_queue.records import Record, Status
from miao_worker.batch_hub import BatchHub, BatchLane
from miao_worker.bundled import bundled_model_path
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SequenceOutput,
    SequenceRequest,
    StepOutput,
)
from miao_worker.engine_batch import EngineBatch
from miao_worker.engine_process import EngineDiedError
from miao_worker.execution import Execution
from miao_worker.metrics import WorkerMetrics

TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))
MAX_CRASHES = 3


class FakeEngine:
    """Says token p at position p; dies in the step that a poison takes effect in.

    poisons: by the first prompt token, the position at which the engine dies.
    kills: numbers of the steps at which it dies for no one's fault.
    """

    def __init__(self, poisons: dict[int, int], kills: Sequence[int] = ()) -> None:
        self._poisons = poisons
        self._kills = set(kills)
        self._sequences: dict[str, tuple[SequenceRequest, int]] = {}
        self._late: list[SequenceOutput] = []
        self.num_steps = 0
        self.is_hung = False
        self.has_answered = True
        self.deaths: list[set[int]] = []  # who was there, by the first prompt token

    def add(self, request: SequenceRequest) -> None:
        assert request.sequence_id not in self._sequences
        self._sequences[request.sequence_id] = (request, len(request.output_token_ids))

    def cancel(self, sequence_id: str) -> None:
        request, position = self._sequences.pop(sequence_id, (None, 0))
        if request is not None:  # a step that was under way still brings something
            self._late.append(SequenceOutput(sequence_id, token_ids=(position,)))

    def restart(self) -> None:
        self._sequences.clear()
        self.is_hung, self.has_answered = False, True

    def ping(self) -> None:
        self.has_answered = not self.is_hung

    def receive(self, timeout_seconds: float, *, is_busy: bool) -> list[StepOutput]:
        assert is_busy == bool(self._sequences)
        self.num_steps += 1
        if self.is_hung:
            self.deaths.append({r.prompt_token_ids[0] for r, _ in self._sequences.values()})
            self._sequences.clear()
            raise EngineDiedError
        if self.num_steps in self._kills or any(map(self._kills_it, self._sequences.values())):
            self.deaths.append({r.prompt_token_ids[0] for r, _ in self._sequences.values()})
            self._sequences.clear()
            raise EngineDiedError
        outputs, self._late = self._late, []
        for sequence_id, (request, position) in list(self._sequences.items()):
            reason = None
            if position + 1 == request.sampling.max_tokens:
                reason = FinishReason.LENGTH
                del self._sequences[sequence_id]
            else:
                self._sequences[sequence_id] = (request, position + 1)
            outputs.append(SequenceOutput(sequence_id, (position,), finish_reason=reason))
        return [StepOutput(tuple(outputs), EngineStats(0, 0, 0, 0, 0, 0))]

    def _kills_it(self, sequence: tuple[SequenceRequest, int]) -> bool:
        request, position = sequence
        return position >= self._poisons.get(request.prompt_token_ids[0], 1 << 30)


def execution(number: int, max_tokens: int, crashes: int = 0) -> Execution:
    record = Record(
        generation_id=f"g{number}",
        request_id="r",
        model="m",
        tenant="t",
        queue="m:normal",
        status=Status.RUNNING,
        attempt=1,
        tokens=0,
        crashes=crashes,
        crashed_alone=False,
        accept_ms=number,
        deadline_ms=1 << 60,
        queue_deadline_ms=1 << 60,
        retention_seconds=1,
        accepted=pb.Accepted(),
        worker="w",
        claimed_ms=0,
        first_token_ms=None,
        finished=None,
    )
    job = Job(prompt_token_ids=[number], max_tokens=max_tokens)
    claim = Claim(record, job, f"o{number}", entries=(), now_ms=0, state={})
    return Execution(claim, TOKENIZER, str)


class Harness:
    """Drives a batch as the runner does, and keeps what it notes of crashes."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.noted: list[tuple[str, Crashes]] = []
        self.batch = EngineBatch(engine, MAX_CRASHES, self._note)  # type: ignore[arg-type]

    def run(
        self,
        executions: Sequence[Execution],
        add: Sequence[Execution] | None = None,
        max_steps: int = 5000,
    ) -> None:
        for one in executions if add is None else add:
            self.batch.add(one)
        while any(one.end is None for one in executions):
            assert self.engine.num_steps < max_steps
            try:
                for one, outputs in self.batch.receive(0.0).items():
                    one.advance(outputs, now_ms=0)
                    if one.end is not None:
                        self.batch.remove(one)
            except EngineDiedError:
                self.batch.restart()

    def _note(self, crashes: Sequence[tuple[Claim, Crashes]]) -> None:
        self.noted += [(claim.owner, known) for claim, known in crashes]


def assert_whole(one: Execution) -> None:
    assert one.end is not None
    assert one.end.reason == pb.FINISH_REASON_LENGTH
    assert one.answers[0].token_ids == list(range(one.claim.job.max_tokens))


def test_one_death_stops_nobody() -> None:
    engine = FakeEngine({}, kills=[5])
    members = [execution(i, 20) for i in range(4)]
    Harness(engine).run(members)
    for one in members:
        assert_whole(one)
    assert engine.num_steps == 21  # together all the time


def test_a_suspect_that_comes_to_a_hung_engine_is_not_blamed() -> None:
    engine = FakeEngine({})
    harness = Harness(engine)
    suspect, other = execution(1, 30, crashes=2), execution(2, 30)
    harness.batch.add(other)
    harness.batch.receive(0.0)
    engine.is_hung = True
    harness.run([suspect, other], add=[suspect])
    assert engine.deaths == [set()]
    assert_whole(suspect)
    assert other.end is not None


def test_deaths_with_steps_between_them_make_nobody_a_suspect() -> None:
    engine = FakeEngine({}, kills=range(10, 100, 10))
    members = [execution(i, 60) for i in range(4)]
    Harness(engine).run(members)
    for one in members:
        assert_whole(one)
    assert all(len(death) == 4 for death in engine.deaths)
    assert engine.num_steps == 60 + len(engine.deaths)  # together all the time


@pytest.mark.parametrize("num_neighbours", [0, 1, 7])
@pytest.mark.parametrize("position", [0, 5])
def test_a_poison_ends_after_three_deaths_and_its_neighbours_do_not(
    num_neighbours: int, position: int
) -> None:
    engine = FakeEngine({0: position})
    poison, *neighbours = [execution(i, 40) for i in range(num_neighbours + 1)]
    harness = Harness(engine)
    harness.run([poison, *neighbours])
    assert poison.end is not None
    assert poison.end.error.message == "the engine failed 3 times while it ran"
    assert poison.answers[0].token_ids == list(range(position))
    for one in neighbours:
        assert_whole(one)
    assert len(engine.deaths) == 3
    assert engine.deaths[-1] == {0}


def test_a_suspect_is_told_of_before_it_runs_alone() -> None:
    harness = Harness(FakeEngine({}))
    suspect, other = execution(1, 30, crashes=2), execution(2, 30)
    harness.run([other, suspect])
    assert harness.noted[0] == ("o1", Crashes(2, alone=False, runs_alone=True))
    assert harness.noted[-1] == ("o1", Crashes(0, alone=False, runs_alone=False))
    assert_whole(suspect)
    assert_whole(other)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    poison=st.none() | st.integers(0, 59),
    kills=st.lists(st.integers(1, 60), max_size=2, unique=True),
    known=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_whatever_dies_all_but_the_poison_say_everything_once(
    lengths: list[int], poison: int | None, kills: list[int], known: list[int]
) -> None:
    engine = FakeEngine({} if poison is None else {0: poison}, kills)
    members = [execution(i, length, known[i]) for i, length in enumerate(lengths)]
    Harness(engine).run(members)
    for i, one in enumerate(members):
        lethal = i == 0 and poison is not None and poison < lengths[0]
        blamed = any(death == {i} for death in engine.deaths)
        if not lethal and not blamed:
            assert_whole(one)
        assert one.answers[0].token_ids == list(range(len(one.answers[0].token_ids)))
        if lethal:
            assert one.end is not None
            assert one.end.reason == pb.FINISH_REASON_ERROR


class HubHarness:
    """Drives a hub and its two lanes by a schedule, as three threads might."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.hub = BatchHub(engine, MAX_CRASHES, WorkerMetrics("m"))  # type: ignore[arg-type]
        self.noted: list[list[tuple[str, Crashes]]] = [[], []]
        self.lanes = [self._lane(noted) for noted in self.noted]

    def _lane(self, noted: list[tuple[str, Crashes]]) -> BatchLane:
        return self.hub.lane(lambda crashes: noted.extend((c.owner, known) for c, known in crashes))

    def run(self, executions: Sequence[Execution], schedule: Iterable[int]) -> None:
        """`schedule`: 0 and 1 for the lanes, 2 for the hub."""
        for number, one in enumerate(executions):
            self.lanes[number % 2].add(one)
        for who in chain(schedule, cycle((2, 0, 1))):
            if all(one.end is not None for one in executions):
                return
            assert self.engine.num_steps < 5000
            if who == 2:
                self.hub.step()
            else:
                self.apply(self.lanes[who], executions[who::2])

    def apply(self, lane: BatchLane, its_own: Sequence[Execution]) -> None:
        for one, outputs in lane.receive(0.0).items():
            assert one in its_own
            one.advance(outputs, now_ms=0)
            if one.end is not None:
                lane.remove(one)
        lane.applied()


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    poison=st.none() | st.integers(0, 39),
    kills=st.lists(st.integers(1, 40), max_size=2, unique=True),
    known=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    schedule=st.lists(st.integers(0, 2), max_size=60),
)
def test_runners_that_lag_say_everything_once_whatever_dies(
    lengths: list[int],
    poison: int | None,
    kills: list[int],
    known: list[int],
    schedule: list[int],
) -> None:
    engine = FakeEngine({} if poison is None else {0: poison}, kills)
    members = [execution(i, length, known[i]) for i, length in enumerate(lengths)]
    harness = HubHarness(engine)
    harness.run(members, schedule)
    for i, one in enumerate(members):
        lethal = i == 0 and poison is not None and poison < lengths[0]
        blamed = any(death == {i} for death in engine.deaths)
        if not lethal and not blamed:
            assert_whole(one)
        assert one.answers[0].token_ids == list(range(len(one.answers[0].token_ids)))
    for noted, its_own in zip(harness.noted, (members[::2], members[1::2]), strict=True):
        assert {owner for owner, _ in noted} <= {one.claim.owner for one in its_own}


def test_a_runner_that_is_stuck_holds_up_nobody_else() -> None:
    engine = FakeEngine({}, kills=[12])
    stuck, other = execution(0, 30), execution(1, 30)
    harness = HubHarness(engine)
    harness.lanes[0].add(stuck)
    harness.lanes[1].add(other)
    while other.end is None:  # the first never comes, through an engine's death too
        harness.hub.step()
        harness.apply(harness.lanes[1], [other])
    assert_whole(other)
    assert stuck.end is None
    harness.apply(harness.lanes[0], [stuck])
    while stuck.end is None:
        harness.hub.step()
        harness.apply(harness.lanes[0], [stuck])
    assert_whole(stuck)


def test_an_engine_is_not_replaced_before_what_was_taken_is_applied() -> None:
    engine = FakeEngine({}, kills=[4])
    one = execution(0, 20)
    harness = HubHarness(engine)
    (lane, _), hub = harness.lanes, harness.hub
    lane.add(one)
    for _ in range(3):
        hub.step()
    brought = lane.receive(0.0)
    dying = threading.Thread(target=hub.step)
    dying.start()
    dying.join(0.15)
    assert dying.is_alive()  # it waits
    for each, outputs in brought.items():
        each.advance(outputs, now_ms=0)
    lane.applied()
    dying.join(10)
    assert not dying.is_alive()
    while one.end is None:
        harness.apply(lane, [one])
        hub.step()
    assert_whole(one)
