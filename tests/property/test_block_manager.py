"""The block manager under any order of calls: nothing leaks, nothing is shared wrongly."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams

BLOCK_SIZE = 3
NUM_BLOCKS = 9
tokens = st.lists(st.integers(0, 1), min_size=1, max_size=14)


def prefix_of(sequence: Sequence, index: int) -> tuple[object, ...]:
    """What a block must hold: whose it is, and all tokens up to its end."""
    return (sequence.cache_scope, *sequence.token_ids[: (index + 1) * BLOCK_SIZE])


class BlockManagerMachine(RuleBasedStateMachine):
    """Holds what each block should contain and compares."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(NUM_BLOCKS, BLOCK_SIZE)
        self.sequences: list[Sequence] = []
        self.content: dict[int, tuple[object, ...]] = {}  # the prefix that ends with the block

    @rule(
        target=held, token_ids=tokens, reserve=st.integers(0, 3), scope=st.sampled_from((b"", b"a"))
    )
    def admit(self, token_ids, reserve, scope):
        sequence = Sequence("s", SamplingParams(1, 0), token_ids, len(token_ids), cache_scope=scope)
        free_before = self.blocks.num_free_blocks
        if not self.blocks.admit(sequence, reserve):
            assert self.blocks.num_free_blocks == free_before
            assert sequence.block_table == []
            return sequence
        assert self.blocks.num_free_blocks >= reserve
        assert sequence.num_computed_tokens < sequence.num_tokens
        for index in range(sequence.num_computed_tokens // BLOCK_SIZE):
            prefix = prefix_of(sequence, index)
            assert self.content[sequence.block_table[index]] == prefix
        for block in sequence.block_table[sequence.num_computed_tokens // BLOCK_SIZE :]:
            self.content.pop(block, None)
        self.sequences.append(sequence)
        return sequence

    @rule(sequence=held)
    def compute_and_publish(self, sequence):
        if sequence not in self.sequences:
            return
        for index in range(sequence.num_tokens // BLOCK_SIZE):
            prefix = prefix_of(sequence, index)
            block = sequence.block_table[index]
            assert self.content.setdefault(block, prefix) == prefix
        self.blocks.publish(sequence, sequence.num_tokens)

    @rule(sequence=held, token=st.integers(0, 1))
    def grow(self, sequence, token):
        if sequence not in self.sequences:
            return
        sequence.token_ids.append(token)
        before = list(sequence.block_table)
        if not self.blocks.grow(sequence):
            assert sequence.block_table == before
            assert self.blocks.num_free_blocks == 0
            sequence.token_ids.pop()
            return
        for block in sequence.block_table[len(before) :]:
            self.content.pop(block, None)

    @rule(sequence=held, proposed=st.lists(st.integers(0, 1), max_size=7), data=st.data())
    def try_a_proposal(self, sequence, proposed, data):
        if sequence not in self.sequences:
            return
        before = list(sequence.block_table)
        room = self.blocks.stretch(sequence, len(proposed))
        assert sequence.block_table[: len(before)] == before
        assert 0 <= room <= len(proposed)
        if room < len(proposed):
            assert self.blocks.num_free_blocks == 0
        for block in sequence.block_table[len(before) :]:
            self.content[block] = ("not", "to", "be", "seen")
        sequence.token_ids += proposed[: data.draw(st.integers(0, room))]
        self.blocks.trim(sequence)
        for block in sequence.block_table[len(before) :]:
            del self.content[block]

    @rule(sequence=held)
    def rewind(self, sequence):
        if sequence not in self.sequences:
            return
        sequence.num_computed_tokens = sequence.num_tokens
        tail = self.blocks.rewind(sequence)
        kept = sequence.num_computed_tokens // BLOCK_SIZE
        assert sequence.num_computed_tokens % BLOCK_SIZE == 0
        assert sequence.block_table[kept:] == tail
        assert kept >= sequence.num_published_blocks
        for other in self.sequences:
            assert other is sequence or not set(tail) & set(other.block_table)

    @rule(sequence=consumes(held), fails=st.booleans())
    def release(self, sequence, fails):
        if sequence not in self.sequences:
            return
        self.sequences.remove(sequence)
        if fails:
            for block in self.blocks.withdraw(sequence):
                assert block in sequence.block_table
                self.content.pop(block, None)
        self.blocks.release(sequence)
        assert sequence.block_table == []

    @invariant()
    def free_and_used_are_all(self):
        used = {block for q in self.sequences for block in q.block_table}
        assert self.blocks.num_free_blocks + len(used) == NUM_BLOCKS

    @invariant()
    def blocks_are_shared_only_where_their_content_is_equal(self):
        holders = Counter(block for q in self.sequences for block in q.block_table)
        for sequence in self.sequences:
            assert len(set(sequence.block_table)) == len(sequence.block_table)
            assert len(sequence.block_table) == self.blocks.blocks_for(sequence.num_tokens)
            for index, block in enumerate(sequence.block_table):
                if holders[block] > 1:
                    assert self.content[block] == prefix_of(sequence, index)


TestBlockManager = BlockManagerMachine.TestCase
TestBlockManager.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
