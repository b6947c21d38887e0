"""The scheduler under any order of calls: order is kept, nobody starves, nothing leaks."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams

BLOCK_SIZE = 2
NUM_BLOCKS = 12
MAX_LENGTH = BLOCK_SIZE * NUM_BLOCKS


class SchedulerMachine(RuleBasedStateMachine):
    """Plays the engine: adds, steps with tokens of its own, cancels."""

    @initialize(
        max_sequences=st.integers(1, 5),
        max_batch_tokens=st.integers(1, 12),
        prefix_cache=st.booleans(),
    )
    def build(self, max_sequences, max_batch_tokens, prefix_cache):
        self.blocks = BlockManager(NUM_BLOCKS, BLOCK_SIZE, prefix_cache)
        self.scheduler = Scheduler(self.blocks, max_sequences, max_batch_tokens)
        self.max_running = min(max_sequences, max_batch_tokens)
        self.max_batch_tokens = max_batch_tokens
        self.alive: dict[str, Sequence] = {}  # in the order of arrival
        self.first_scheduled: list[int] = []
        self.num_added = 0

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=MAX_LENGTH - 1),
        max_tokens=st.integers(1, 12),
    )
    def add(self, prompt, max_tokens):
        sequence = Sequence(
            str(self.num_added), SamplingParams(max_tokens, 0), list(prompt), len(prompt)
        )
        self.num_added += 1
        self.alive[sequence.sequence_id] = sequence
        self.scheduler.add(sequence)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data):
        sequence_id = data.draw(st.sampled_from(sorted(self.alive)))
        assert self.scheduler.remove(sequence_id) is self.alive.pop(sequence_id)
        assert self.scheduler.remove(sequence_id) is None

    @rule(token=st.integers(0, 1), proposed=st.just(0) | st.integers(1, 6), data=st.data())
    def step(self, token, proposed=0, data=None):
        batch = self.scheduler.schedule()
        assert batch.num_tokens <= self.max_batch_tokens
        assert bool(batch) == bool(self.alive), "a step with work always does some"
        self._check(batch)
        if proposed:
            self._speculate(batch, proposed)
        yielding = batch.yielding
        batch.mark_computed()
        for sequence, proposal in yielding:
            assert sequence.num_uncomputed_tokens == 0
            num_accepted = data.draw(st.integers(0, len(proposal))) if proposal else 0
            self._accept(sequence, token, num_accepted, proposal)

    def _speculate(self, batch, num_proposed):
        free, preempted = self.blocks.num_free_blocks, self.scheduler.num_preemptions
        longest = [MAX_LENGTH - q.num_tokens for q in batch.decodes]
        self.scheduler.speculate(batch, [(7,) * min(num_proposed, n) for n in longest])
        assert batch.num_tokens <= self.max_batch_tokens
        assert self.scheduler.num_preemptions == preempted, "nobody gives way to a guess"
        assert len(batch.decode_rows) == len(batch.decodes) + sum(map(len, batch.proposals))
        for sequence, proposal in zip(batch.decodes, batch.proposals, strict=False):
            needed = self.blocks.blocks_for(sequence.num_tokens + len(proposal))
            assert len(sequence.block_table) >= needed
        if not batch.proposals:
            assert (
                not batch.decodes
                or not free
                or self.scheduler.spare_tokens(batch) == 0
                or (max(longest) == 0)
            )

    def _accept(self, sequence, token, num_accepted, proposal):
        for _ in range(num_accepted + 1):
            sequence.token_ids.append(token)
            if sequence.finish_reason(MAX_LENGTH) is not None:
                break
        sequence.num_computed_tokens = sequence.num_tokens - 1
        if proposal:
            self.scheduler.settle(sequence)
            assert len(sequence.block_table) <= self.blocks.blocks_for(sequence.num_tokens)
        if sequence.finish_reason(MAX_LENGTH) is not None:
            self.scheduler.remove(sequence.sequence_id)
            del self.alive[sequence.sequence_id]

    def _check(self, batch):
        scheduled = [*batch.decodes, *(p.sequence for p in batch.prefills)]
        assert len(set(map(id, scheduled))) == len(scheduled)
        for sequence in scheduled:
            assert sequence.row is not None
            assert len(sequence.block_table) >= self.blocks.blocks_for(sequence.num_tokens)
        for prefill in batch.prefills:
            assert prefill.start == prefill.sequence.num_computed_tokens
            assert 0 < prefill.num_tokens <= prefill.sequence.num_uncomputed_tokens
        self._check_oldest(scheduled)

    def _check_oldest(self, scheduled):
        if scheduled:
            oldest = next(iter(self.alive.values()))
            running = oldest in scheduled or oldest.num_uncomputed_tokens > 1
            assert running, "the oldest always moves on, or waits for the rest of a step's tokens"
            assert oldest.row is not None, "the oldest is never put back"

    @invariant()
    def running_came_before_waiting(self):
        if not hasattr(self, "scheduler"):
            return
        running = [int(i) for i in self.scheduler._running]
        waiting = [int(s.sequence_id) for s in self.scheduler._waiting.values()]
        assert running == sorted(running)
        assert waiting == sorted(waiting)
        assert not running or not waiting or running[-1] < waiting[0]
        assert len(running) <= self.max_running

    @invariant()
    def rows_and_blocks_do_not_leak(self):
        if not hasattr(self, "scheduler"):
            return
        running = list(self.scheduler._running.values())
        rows = [q.row for q in running] + self.scheduler._free_rows
        assert sorted(rows) == list(range(self.max_running))
        used = {block for q in running for block in q.block_table}
        assert self.blocks.num_free_blocks + len(used) == NUM_BLOCKS
        for sequence in self.scheduler._waiting.values():
            assert (sequence.block_table, sequence.row) == ([], None)

    def teardown(self):
        """Whatever happened, all that is left comes to its end."""
        if not hasattr(self, "scheduler"):
            return
        for _ in range(5000):
            if not self.alive:
                break
            self.step(1)
        assert not self.alive
        assert not self.scheduler.has_unfinished
        assert self.blocks.num_free_blocks == NUM_BLOCKS


class SharedMachine(SchedulerMachine):
    """The same with several tenants: each keeps its own order, and nobody starves."""

    @rule(
        prompt=st.lists(st.integers(0, 1), min_size=1, max_size=MAX_LENGTH - 1),
        max_tokens=st.integers(1, 12),
        tenant=st.sampled_from("abc"),
    )
    def add(self, prompt, max_tokens, tenant="a"):
        sequence = Sequence(
            str(self.num_added), SamplingParams(max_tokens, 0), list(prompt), len(prompt)
        )
        sequence.tenant = tenant
        sequence.weight = {"a": 1.0, "b": 3.0, "c": 0.5}[tenant]
        self.num_added += 1
        self.alive[sequence.sequence_id] = sequence
        self.scheduler.add(sequence)

    def _check_oldest(self, scheduled):
        """The first of a tenant that runs is never put back for its own tenant's sake."""
        oldest = {}
        for sequence in self.alive.values():
            oldest.setdefault(sequence.tenant, sequence)
        assert not scheduled or any(q.row is not None for q in oldest.values())

    @invariant()
    def running_came_before_waiting(self):
        if not hasattr(self, "scheduler"):
            return
        for tenant in "abc":
            running = [q for q in self.scheduler._running.values() if q.tenant == tenant]
            waiting = [q for q in self.scheduler._waiting.values() if q.tenant == tenant]
            running, waiting = ([int(q.sequence_id) for q in each] for each in (running, waiting))
            assert running == sorted(running)
            assert waiting == sorted(waiting)
            assert not running or not waiting or running[-1] < waiting[0]
        assert len(self.scheduler._running) <= self.max_running


TestShared = SharedMachine.TestCase
TestShared.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
