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

    def __init__(self, max_sequences: int, max_batch_tokens: int, num_blocks: int = 1000) -> None:
        self.blocks = BlockManager(num_blocks, 4, prefix_cache=True)
        self.scheduler = Scheduler(self.blocks, max_sequences, max_batch_tokens)
        self.num_added = 0

    def add(self, tenant: str, num_tokens: int = 3, weight: float = 1.0) -> Sequence:
        self.num_added += 1
        prompt = [self.num_added] * num_tokens
        sequence = Sequence(
            f"{tenant}{self.num_added}", SamplingParams(10**6, 0), prompt, num_tokens
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
    assert len(batch.decodes) == 3  # one gave way, the others go on
    for _ in range(3):
        steps.add("quiet")
    for _ in range(20):
        steps.step()
    assert steps.rows == {"flood": 2, "quiet": 2}
    assert steps.scheduler.num_preemptions == 2  # and nobody goes back and forth


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
    batch = steps.step()
    assert prefilled(batch) == {"quiet": 20, "long": 44}
    assert quiet.num_output_tokens == 1
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
