"""The generations that are in the engine, through its deaths.

When an engine dies, all that it ran goes on in the next one, from the tokens
that each has. The first death says nothing about who caused it, and a death in
company is forgiven after some steps: what kills an engine does so again at once,
for it comes back to the same token. Whoever was there at two deaths without
such steps between them is a suspect: each suspect runs alone for a while, in an
engine that has just shown that it lives, as the others wait, and joins them when
it survives. One that dies alone, and has been
there three times, is at fault and ends with an error; so a generation that kills
its engine never takes its neighbours along.

    add ──► members ──(nobody is suspected)──► inside the engine
                │                                   ▲
                └──► suspects ──► alone ──(survives)┘
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from miao_queue.claims import Claim, Crashes
from miao_worker.attempt import INTERNAL, Answering, AnyAttempt
from miao_worker.engine.types import SequenceOutput
from miao_worker.engine_process import EngineProcess

Brought = tuple[Answering, SequenceOutput]
NoteCrashes = Callable[[Sequence[tuple[Claim, Crashes]]], None]

_SUSPECT_AT = 2  # deaths
_STEPS_TO_SURVIVE = 8


class EngineBatch:
    """Keeps the engine supplied with what should run.

    `add` and `remove` may be called from any thread, the rest from one alone.
    """

    def __init__(
        self,
        engine: EngineProcess,
        max_crashes: int,
        note_crashes: NoteCrashes,
        settle: Callable[[AnyAttempt], None] = lambda _: None,
    ) -> None:
        """`settle`: called before a generation's tokens are looked at, to run it from there."""
        self._engine = engine
        self._settle = settle
        self._max_crashes = max_crashes
        self._note_crashes = note_crashes
        self._lock = threading.Lock()
        self._members: dict[str, AnyAttempt] = {}  # by owner: all that should run
        # By sequence id: the answers that are in the engine, with their generation.
        self._inside: dict[str, tuple[AnyAttempt, Answering]] = {}
        self._suspects: deque[AnyAttempt] = deque()
        self._alone: AnyAttempt | None = None
        self._has_entered = False  # the one that runs alone
        self._num_sequences = 0
        self._is_down = False  # between two engines

    @property
    def is_isolating(self) -> bool:
        """Whether a suspect runs alone, or is about to, and all others wait."""
        return self._alone is not None or bool(self._suspects)

    def add(self, execution: AnyAttempt) -> None:
        """Run a generation, from the tokens that it has."""
        with self._lock:
            self._members[execution.claim.owner] = execution
            if execution.crashes.total >= _SUSPECT_AT:
                self._suspects.append(execution)
            elif not (self._is_down or self.is_isolating):
                self._enter(execution)

    def remove(self, execution: AnyAttempt) -> None:
        """Run it no longer; nothing more comes of it."""
        with self._lock:
            self._members.pop(execution.claim.owner, None)
            self._leave(execution)

    def retire(self, execution: AnyAttempt) -> None:
        """Run its answers no longer that have ended, at a stop text the engine does not know."""
        with self._lock:
            for answer in execution.answers:
                if answer.end is not None:
                    self._take_out(answer)

    def receive(self, timeout_seconds: float) -> dict[AnyAttempt, list[Brought]]:
        """What the next steps bring, by generation; empty after the timeout.

        Raises EngineDiedError: `restart` must follow.
        """
        self._isolate()
        steps = self._engine.receive(timeout_seconds, is_busy=bool(self._inside))
        brought: dict[AnyAttempt, list[Brought]] = {}
        with self._lock:
            for step in steps:
                for execution in self._sort(step.outputs, brought):
                    execution.num_steps += 1
        self._forgive(brought)
        return brought

    def applied(self) -> None:
        """All that was received has become part of its generations."""

    def restart(self) -> None:
        """Replace a dead engine. Whoever is at fault has its `end` set, and has left.

        Raises ModelLoadError if the engine cannot load its model any more.
        """
        with self._lock:
            self._is_down = True
            victims = list(dict.fromkeys(execution for execution, _ in self._inside.values()))
            self._inside.clear()
            self._suspects.clear()
            self._alone = None
        for execution in victims:
            self._settle(execution)
            self._blame(execution, alone=len(victims) == 1)
        self._note_crashes([(execution.claim, execution.crashes) for execution in victims])
        self._engine.restart()
        with self._lock:
            self._is_down = False
            members = sorted(self._members.values(), key=_acceptance)
            self._suspects.extend(e for e in members if e.crashes.total >= _SUSPECT_AT)
            if not self._suspects:
                self._enter_all()

    def _blame(self, execution: AnyAttempt, *, alone: bool) -> None:
        before = execution.crashes
        execution.crashes = Crashes(before.total + 1, alone)
        if alone and execution.crashes.total >= self._max_crashes:
            execution.fail(INTERNAL, failure_message(execution.crashes))
            with self._lock:
                self._members.pop(execution.claim.owner, None)

    def _forgive(self, progressed: Iterable[AnyAttempt]) -> None:
        """Forget the deaths, in company, of those who have gone on for a while since."""
        forgiven = []
        for execution in progressed:
            crashes = execution.crashes
            survived = execution.num_steps >= _STEPS_TO_SURVIVE
            if crashes.total and not crashes.alone and survived:
                execution.crashes = Crashes(0, alone=False, runs_alone=crashes.runs_alone)
                forgiven.append((execution.claim, execution.crashes))
        self._note_crashes(forgiven)

    def _isolate(self) -> None:
        """Let the next suspect run alone, when it is time; in the end let all run."""
        if self._alone is not None and self._has_survived(self._alone):
            survivor = self._alone
            self._tell_alone(survivor, is_alone=False)
            with self._lock:
                self._alone = None
                if not self._suspects:
                    self._enter_all()
        while self._alone is None and self._suspects:
            with self._lock:
                suspect = self._suspects.popleft()
                if suspect.claim.owner not in self._members:
                    if not self._suspects:
                        self._enter_all()
                    continue
                for execution in {execution for execution, _ in self._inside.values()}:
                    self._leave(execution)
                self._alone, self._has_entered = suspect, False
            suspect.num_steps = 0
            self._tell_alone(suspect, is_alone=True)  # before it can do harm
            self._engine.ping()
        self._let_in()

    def _let_in(self) -> None:
        """Let the suspect into its engine, once that has shown that it lives."""
        with self._lock:
            if self._alone is None or self._has_entered or not self._engine.has_answered:
                return
            self._has_entered = True
            if self._alone.claim.owner in self._members:
                self._enter(self._alone)

    def _has_survived(self, execution: AnyAttempt) -> bool:
        has_ended = execution.claim.owner not in self._members
        return has_ended or execution.num_steps >= _STEPS_TO_SURVIVE

    def _tell_alone(self, execution: AnyAttempt, *, is_alone: bool) -> None:
        crashes = execution.crashes
        execution.crashes = Crashes(crashes.total, crashes.alone, runs_alone=is_alone)
        self._note_crashes([(execution.claim, execution.crashes)])

    # With the lock held

    def _sort(
        self, outputs: Iterable[SequenceOutput], brought: dict[AnyAttempt, list[Brought]]
    ) -> set[AnyAttempt]:
        """Add a step's outputs to what was brought before; whom they belong to."""
        owners = set()
        for output in outputs:
            if output.sequence_id not in self._inside:
                continue  # it has left
            execution, answer = self._inside[output.sequence_id]
            owners.add(execution)
            brought.setdefault(execution, []).append((answer, output))
            if output.finish_reason is not None:
                del self._inside[output.sequence_id]
        return owners

    def _enter_all(self) -> None:
        inside = {execution for execution, _ in self._inside.values()}
        for execution in sorted(self._members.values(), key=_acceptance):
            if execution not in inside:
                self._enter(execution)

    def _enter(self, execution: AnyAttempt) -> None:
        self._settle(execution)
        execution.num_steps = 0
        for answer in execution.answers:
            if answer.runs:
                self._put_in(execution, answer)

    def _put_in(self, execution: AnyAttempt, answer: Answering) -> None:
        # An id of its own each time: what the engine still sends of an earlier
        # stay is not taken for this one's.
        self._num_sequences += 1
        answer.sequence_id = f"{execution.claim.owner}-{self._num_sequences}"
        self._inside[answer.sequence_id] = (execution, answer)
        self._engine.add(execution.request(answer))

    def _leave(self, execution: AnyAttempt) -> None:
        for answer in execution.answers:
            self._take_out(answer)

    def _take_out(self, answer: Answering) -> None:
        if self._inside.pop(answer.sequence_id, None) is not None:
            self._engine.cancel(answer.sequence_id)


def failure_message(crashes: Crashes) -> str:
    """What a caller is told of a generation that is at fault."""
    return f"the engine failed {crashes.total} times while it ran"


def _acceptance(execution: AnyAttempt) -> int:
    return execution.claim.record.accept_ms
