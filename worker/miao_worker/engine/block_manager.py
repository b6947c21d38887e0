"""Who holds which block of the KV pool, and which blocks can be shared.

Blocks are counted by reference. A full block is published under a digest of
all tokens up to its end, chained block by block as in vLLM's prefix cache
(docs.vllm.ai, "Automatic Prefix Caching"), here with BLAKE2b, so two different
prefixes do not meet under one digest. An unreferenced published block keeps
its content until it is the least recently used one and is needed.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from hashlib import blake2b

from miao_worker.engine.sequence import Sequence

_DIGEST_BYTES = 16


class BlockManager:
    """Blocks 0 to num_blocks - 1: each is free or referenced, never both."""

    def __init__(self, num_blocks: int, block_size: int, prefix_cache: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._prefix_cache = prefix_cache
        self._references = [0] * num_blocks
        self._digests: list[bytes | None] = [None] * num_blocks
        self._published: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))

    @property
    def num_free_blocks(self) -> int:
        return len(self._free)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def admit(self, sequence: Sequence, reserve: int = 0) -> bool:
        """Give the sequence blocks for all its tokens, shared ones first.

        Sets `num_computed_tokens` to the length of the shared prefix. Takes
        nothing and returns False where fewer than `reserve` blocks would stay free.
        """
        shared = self._shared_prefix(sequence)
        if self._num_lacking(sequence, shared, reserve) > 0:
            return False
        for block in shared:
            self._reference(block)
        num_new = self.blocks_for(sequence.num_tokens) - len(shared)
        sequence.block_table = [*shared, *(self._take() for _ in range(num_new))]
        sequence.num_published_blocks = len(shared)
        sequence.num_computed_tokens = len(shared) * self.block_size
        return True

    def has_room_for(self, sequence: Sequence, reserve: int = 0) -> bool:
        """Whether `admit` would succeed."""
        return self._num_lacking(sequence, self._shared_prefix(sequence), reserve) <= 0

    def is_at_the_end(self, sequence: Sequence) -> bool:
        """Whether the sequence's tokens need a block that it does not hold."""
        return self.blocks_for(sequence.num_tokens) > len(sequence.block_table)

    def grow(self, sequence: Sequence) -> bool:
        """Cover the sequence's tokens with blocks; False, and unchanged, where none is free."""
        num_missing = self.blocks_for(sequence.num_tokens) - len(sequence.block_table)
        if num_missing > len(self._free):
            return False
        for _ in range(num_missing):
            sequence.block_table.append(self._take())
        return True

    def stretch(self, sequence: Sequence, num_ahead: int) -> int:
        """Cover tokens past the sequence's own, as far as blocks are free.

        Returns how many of the `num_ahead` have room. `trim` gives the blocks back.
        """
        num_missing = self.blocks_for(sequence.num_tokens + num_ahead) - len(sequence.block_table)
        for _ in range(min(num_missing, len(self._free))):
            sequence.block_table.append(self._take())
        return min(num_ahead, len(sequence.block_table) * self.block_size - sequence.num_tokens)

    def trim(self, sequence: Sequence) -> None:
        """Give back the blocks past the sequence's tokens; none of them was ever published."""
        num_kept = self.blocks_for(sequence.num_tokens)
        if num_kept < len(sequence.block_table):
            self._drop(sequence.block_table[num_kept:])
            # A new list: whoever holds a copy sees that it is another table.
            sequence.block_table = sequence.block_table[:num_kept]

    def rewind(self, sequence: Sequence) -> list[int]:
        """Take back the computed tokens of the first block with a token that is not computed.

        Returns that block and all behind it, which the sequence alone holds:
        for a tail whose keys and values must not stay.
        """
        first = sequence.num_computed_tokens // self.block_size
        sequence.num_computed_tokens = first * self.block_size
        return sequence.block_table[first:]

    def publish(self, sequence: Sequence, num_tokens: int) -> None:
        """Offer the blocks that the first `num_tokens` tokens fill to other sequences.

        May be called in the step that computes them: each layer stores the keys
        and values of the whole batch before any of it attends.
        """
        if not self._prefix_cache:
            return
        for index in range(sequence.num_published_blocks, num_tokens // self.block_size):
            self._publish_block(sequence.block_table[index], self._digest(sequence, index))
            sequence.num_published_blocks = index + 1

    def release(self, sequence: Sequence) -> None:
        """Drop the sequence's references; the end of its prefix is reused first."""
        self._drop(sequence.block_table)
        sequence.block_table = []
        sequence.num_published_blocks = 0

    def withdraw(self, sequence: Sequence) -> list[int]:
        """Stop sharing the blocks that this sequence alone holds; returns them.

        For a sequence whose keys and values are not to be trusted.
        """
        own = [block for block in sequence.block_table if self._references[block] == 1]
        for block in own:
            self._unpublish(block)
        return own

    def _shared_prefix(self, sequence: Sequence) -> list[int]:
        """Published blocks that hold the sequence's first tokens, but never all of them.

        One token at least is left to compute: its logits are needed. So are those
        of all tokens that come before one which is to be scored.
        """
        shared: list[int] = []
        if not self._prefix_cache:
            return shared
        for index in range(sequence.num_sharable_tokens // self.block_size):
            block = self._published.get(self._digest(sequence, index))
            if block is None:
                break
            shared.append(block)
        return shared

    def _digest(self, sequence: Sequence, index: int) -> bytes:
        digests = sequence.block_digests
        while len(digests) <= index:
            start = len(digests) * self.block_size
            tokens = array("q", sequence.token_ids[start : start + self.block_size])
            before = digests[-1] if digests else _root(sequence)
            digests.append(blake2b(before + tokens.tobytes(), digest_size=_DIGEST_BYTES).digest())
        return digests[index]

    def _publish_block(self, block: int, digest: bytes) -> None:
        if digest not in self._published:
            self._published[digest] = block
            self._digests[block] = digest

    def _unpublish(self, block: int) -> None:
        digest = self._digests[block]
        if digest is not None:
            del self._published[digest]
            self._digests[block] = None

    def _drop(self, blocks: list[int]) -> None:
        for block in reversed(blocks):
            self._references[block] -= 1
            if not self._references[block]:
                self._free[block] = None
                if self._digests[block] is None:
                    self._free.move_to_end(block, last=False)

    def _num_lacking(self, sequence: Sequence, shared: list[int], reserve: int) -> int:
        num_new = self.blocks_for(sequence.num_tokens) - len(shared)
        num_revived = sum(1 for block in shared if not self._references[block])
        return num_new + num_revived + reserve - len(self._free)

    def _reference(self, block: int) -> None:
        if not self._references[block]:
            del self._free[block]
        self._references[block] += 1

    def _take(self) -> int:
        block, _ = self._free.popitem(last=False)
        self._unpublish(block)
        self._references[block] = 1
        return block


def _root(sequence: Sequence) -> bytes:
    """What the digests of a sequence's blocks begin with: other ones by adapter and by scope."""
    root = b""
    if sequence.adapter is not None:
        root = _digest_of(sequence.adapter.encode(), b"adapter")
    return root if not sequence.cache_scope else _digest_of(root + sequence.cache_scope, b"scope")


def _digest_of(content: bytes, purpose: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES, person=purpose).digest()
