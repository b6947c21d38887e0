"""Which attention heads of a layer a rank holds."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True, slots=True)
class HeadShare:
    """A rank's heads.

    heads: its query heads.
    kv_heads: the kv head of each group of them; the groups are of one size.
    """

    heads: range
    kv_heads: tuple[int, ...]

    @classmethod
    def of(cls, heads: int, kv_heads: int, rank: int, size: int) -> HeadShare:
        """The share of a rank among `size`, which has to divide the query heads.

        A kv head goes wherever a query head needs it. Where the ranks cut through the
        query heads of one, several ranks hold it:

            8 heads on 2 kv heads, 4 ranks   heads 0 1 | 2 3 | 4 5 | 6 7
                                             kv     0  |  0  |  1  |  1
            6 heads on 3 kv heads, 2 ranks   heads 0 1 2 | 3 4 5
                                             kv    0 0 1 | 1 2 2
        """
        count, group = heads // size, heads // kv_heads
        first, step = rank * count, gcd(group, count)
        firsts = range(first, first + count, step)
        return cls(range(first, first + count), tuple(head // group for head in firsts))
