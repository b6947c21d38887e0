"""Several tenants in one engine: rows and a step's tokens are divided, by weight."""

from __future__ import annotations

from collections import Counter

import pytest

from miao_worker.engine.batch import Batch
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.shares import barred, divide
from miao_worker.engine.types import SamplingParams


class Steps:
    """A scheduler, stepped with a token for whoever has computed all it has."""

    def __init__(
        self,
        max_sequences: int,
        max_batch_tokens: int,
        num_blocks: int = 1000,
        decodes_cost: bool = True,
    ) -> None:
        self.blocks = BlockManager(num_blocks, 4, prefix_cache=True)
        self.scheduler = Scheduler(
            self.blocks, max_sequences, max_batch_tokens, decodes_cost=decodes_cost
        )
        self.num_added = 0

    def add(
        self, tenant: str, num_tokens: int = 3, weight: float = 1.0, max_tokens: int = 10**6
    ) -> Sequence:
        self.num_added += 1
        prompt = [self.num_added] * num_tokens
        sequence = Sequence(
            f"{tenant}{self.num_added}", SamplingParams(max_tokens, 0), prompt, num_tokens
        )
        sequence.tenant, sequence.weight = tenant, weight
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> Batch:
        batch = self.scheduler.schedule()
        batch.mark_computed()
        for sequence in batch.sequences:
            if not sequence.num_uncomputed_tokens:
                sequence.token_ids.append(1)
                sequence.has_emitted = True
                if sequence.num_output_tokens == sequence.sampling.max_tokens:
                    self.scheduler.remove(sequence.sequence_id)
        return batch

    @property
    def rows(self) -> Counter[str]:
        return Counter(s.tenant for s in self.scheduler._running.values())


def prefilled(batch: Batch) -> Counter[str]:
    counts: Counter[str] = Counter()
    for prefill in batch.prefills:
        counts[prefill.sequence.tenant] += prefill.num_tokens
    return counts


def test_a_newcomer_has_its_first_token_in_the_next_step_though_the_batch_is_full() -> None:
    steps = Steps(max_sequences=4, max_batch_tokens=64)
    for _ in range(8):
        steps.add("flood")
    for _ in range(3):
        steps.step()
    quiet = steps.add("quiet")
    batch = steps.step()
    assert quiet.num_output_tokens == 1
    assert batch.sequences == [quiet]
    assert len(steps.step().decodes) == 4  # one gave way, the others go on
    for _ in range(3):
        steps.add("quiet")
    for _ in range(20):
        steps.step()
    assert steps.rows == {"flood": 2, "quiet": 2}
    assert steps.scheduler.num_preemptions == 2  # and nobody goes back and forth


def flooded(**settings: bool) -> Steps:
    """A full batch of one tenant, some of whose prompts wait."""
    steps = Steps(max_sequences=4, max_batch_tokens=64, **settings)
    for _ in range(8):
        steps.add("flood", num_tokens=6)
    for _ in range(3):
        steps.step()
    return steps


def test_newcomers_have_every_other_step_at_most() -> None:
    steps = flooded()
    first = steps.add("a")
    assert steps.step().sequences == [first]
    second = steps.add("b")
    batch = steps.step()
    assert second in batch.sequences
    assert len(batch.sequences) == 4
    third = steps.add("c")
    assert steps.step().sequences == [third]


def test_of_newcomers_that_come_at_once_each_has_its_first_in_the_step() -> None:
    steps = flooded()
    firsts = [steps.add("a"), steps.add("b")]
    seconds = [steps.add("a"), steps.add("b")]
    for sequence_id in list(steps.scheduler._running)[:2]:
        steps.scheduler.remove(sequence_id)  # two rows are free
    assert steps.step().sequences == firsts
    assert not any(sequence.num_output_tokens for sequence in seconds)


def test_a_longer_prompt_of_a_newcomer_has_tokens_of_others_beside_it_but_no_prompts() -> None:
    steps = flooded()
    quiet = steps.add("quiet", num_tokens=40)
    steps.scheduler.remove(next(iter(steps.scheduler._running)))  # the flood's next could come in
    batch = steps.step()
    assert prefilled(batch) == {"quiet": 40}
    assert quiet.num_output_tokens == 1
    assert len(batch.decodes) == 3


def test_where_decodes_cost_nothing_they_go_on_beside_a_newcomer() -> None:
    steps = flooded(decodes_cost=False)
    quiet = steps.add("quiet")
    batch = steps.step()
    assert prefilled(batch) == {"quiet": 3}
    assert len(batch.decodes) == 3
    assert quiet.num_output_tokens == 1


def test_a_flood_adds_to_a_first_token_the_rest_of_the_step_under_way_and_no_more() -> None:
    """Steps take a time by their tokens; whoever comes waits for the one that runs."""

    def seconds(batch: Batch) -> int:
        return 3 + batch.num_tokens

    alone = Steps(max_sequences=4, max_batch_tokens=64)
    alone.add("quiet", num_tokens=5)
    usual = seconds(alone.step())
    steps, longest = flooded(), 0
    for number in range(400):
        while steps.scheduler.num_waiting < 8:
            steps.add("flood", num_tokens=6, max_tokens=5 + number % 4)
        longest = max(longest, seconds(steps.step()))
        if number % 7 == 0:
            quiet = steps.add("quiet", num_tokens=5, max_tokens=3)
            assert seconds(steps.step()) <= usual
            assert quiet.num_output_tokens == 1
    assert longest > usual  # beside the flood's prompts it would have taken longer


def test_rows_are_divided_by_weight() -> None:
    steps = Steps(max_sequences=8, max_batch_tokens=64)
    for _ in range(10):
        steps.add("a", weight=3)
    steps.step()
    for _ in range(10):
        steps.add("b")
    for _ in range(12):
        steps.step()
    assert steps.rows == {"a": 6, "b": 2}


def test_long_prompts_of_one_leave_room_for_anothers() -> None:
    steps = Steps(max_sequences=8, max_batch_tokens=64)
    for _ in range(3):
        steps.add("long", 400)
    steps.step()
    quiet = steps.add("quiet", 20)
    assert prefilled(steps.step()) == {"quiet": 20}
    assert quiet.num_output_tokens == 1
    next_one = steps.add("next", 20)
    assert prefilled(steps.step()) == {"next": 20, "long": 43}
    assert next_one.num_output_tokens == 1
    steps.scheduler.remove(next_one.sequence_id)
    other = steps.add("other", 400)
    batch = steps.step()
    assert quiet in batch.decodes
    assert prefilled(batch) == {"long": 32, "other": 31}
    assert other.num_computed_tokens == 31


def test_who_lacks_blocks_gets_those_of_who_has_more_rows() -> None:
    steps = Steps(max_sequences=8, max_batch_tokens=64, num_blocks=24)
    for _ in range(5):
        steps.add("flood", 12)
    for _ in range(4):
        steps.step()
    quiet = steps.add("quiet", 40)
    steps.step()
    assert quiet.num_output_tokens == 1
    assert steps.rows["flood"] >= 1


def test_one_tenant_is_served_in_its_order() -> None:
    steps = Steps(max_sequences=2, max_batch_tokens=64)
    added = [steps.add("a") for _ in range(4)]
    for _ in range(5):
        steps.step()
    assert [s.row is not None for s in added] == [True, True, False, False]
    assert steps.scheduler.num_preemptions == 0


@pytest.mark.parametrize(
    ("amount", "demands", "weights", "parts"),
    [
        (10, {"a": 3, "b": 4}, {"a": 1, "b": 1}, {"a": 3, "b": 4}),
        (10, {"a": 100, "b": 100}, {"a": 1, "b": 1}, {"a": 5, "b": 5}),
        (10, {"a": 2, "b": 100}, {"a": 1, "b": 1}, {"a": 2, "b": 8}),
        (12, {"a": 100, "b": 100}, {"a": 3, "b": 1}, {"a": 9, "b": 3}),
        (1, {"a": 9, "b": 9}, {"a": 1, "b": 1}, {"a": 1, "b": 0}),
        (0, {"a": 9}, {"a": 1}, {"a": 0}),
    ],
)
def test_an_amount_is_divided_by_weight_and_wholly(
    amount: int, demands: dict[str, int], weights: dict[str, float], parts: dict[str, int]
) -> None:
    assert divide(amount, demands, weights) == parts


def test_a_full_batch_takes_in_who_has_less() -> None:
    full = [("a", 1.0)] * 4
    assert barred(full[:3], 4) == []
    assert barred(full, 4) == ["a"]
    assert barred([*full, ("b", 1.0)], 4) == ["a"]  # 4 and 1: b may have another
    assert barred([*full, *[("b", 1.0)] * 2], 4) is not None
    assert barred([("a", 1.0)] * 2 + [("b", 1.0)] * 2, 4) == ["a", "b"]  # c may come
    assert barred([("a", 1.0), ("b", 1.0)], 2) is None  # each has what it needs
    assert barred(full * 2, 4) is None


def test_blocks_are_found_within_their_scope_alone() -> None:
    blocks = BlockManager(100, 4, prefix_cache=True)
    found = []
    for number, scope in enumerate([b"", b"one", b"one", b"two", b""]):
        sequence = Sequence(str(number), SamplingParams(9, 0), list(range(10)), 10)
        sequence.cache_scope = scope
        assert blocks.admit(sequence)
        found.append(sequence.num_computed_tokens)
        blocks.publish(sequence, 8)
    assert found == [0, 0, 8, 0, 8]
