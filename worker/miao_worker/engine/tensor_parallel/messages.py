"""What the first rank tells the others of a step: a row of numbers.

Block tables are not sent with each step: every rank has a copy, and hears what is new in them.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from miao_worker.engine.packing import StepNumbers
from miao_worker.engine.paged_batch import Indices

News = tuple[int, int, list[int]]  # a line of the block tables, a column, blocks from there on

_STEP, _ERASE = 1, 2
_HEAD = 7


@dataclass(frozen=True, slots=True)
class ComputeStep:
    """Compute a batch.

    news: what is new in the block tables.
    has_carried: some of the token ids are known to the first rank's device alone.
    """

    numbers: StepNumbers
    news: list[News]
    has_carried: bool

    def to_bytes(self) -> bytes:
        """It as 64-bit numbers, the counts first."""
        numbers = self.numbers
        news = [number for row, start, blocks in self.news
                for number in (row, start, len(blocks), *blocks)]  # fmt: skip
        counts = (len(numbers.token_ids), len(numbers.rows), len(numbers.chunks))
        head = (_STEP, *counts, len(numbers.sampled), len(news), self.has_carried)
        chunks = [number for span in numbers.chunks for number in span]
        arrays = (numbers.token_ids, numbers.rows, numbers.positions, numbers.sampled)
        return np.concatenate([_array(head), *arrays, _array(chunks), _array(news)]).tobytes()


@dataclass(frozen=True, slots=True)
class EraseBlocks:
    """Clear the content of blocks."""

    blocks: Items[int]

    def to_bytes(self) -> bytes:
        return _array([_ERASE, *self.blocks]).tobytes()


Message = ComputeStep | EraseBlocks


def message_of(data: bytes) -> Message:
    """What `to_bytes` was called on."""
    numbers = np.frombuffer(bytearray(data), dtype=np.int64)  # torch wants to be able to write
    if numbers[0] == _ERASE:
        return EraseBlocks(numbers[1:].tolist())
    tokens, rows, chunks, sampled, news, has_carried = numbers[1:_HEAD].tolist()
    ends = np.cumsum([_HEAD, tokens, rows, rows, sampled, 3 * chunks, news])[:-1]
    parts = np.split(numbers, ends)[1:]
    token_ids, table_rows, positions, places, spans, changes = parts
    return ComputeStep(
        StepNumbers(
            token_ids=token_ids,
            rows=table_rows,
            positions=positions,
            chunks=[(row, start, end) for row, start, end in spans.reshape(-1, 3).tolist()],
            sampled=places,
        ),
        news=_news_of(changes),
        has_carried=bool(has_carried),
    )


def _news_of(numbers: Indices) -> list[News]:
    news, values, place = [], numbers.tolist(), 0
    while place < len(values):
        row, start, count = values[place : place + 3]
        news.append((row, start, values[place + 3 : place + 3 + count]))
        place += 3 + count
    return news


def _array(numbers: Items[int]) -> Indices:
    return np.array(numbers, dtype=np.int64)
