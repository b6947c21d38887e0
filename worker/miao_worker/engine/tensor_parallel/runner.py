"""Runs steps at all ranks: the first one schedules and samples, the others compute along."""

from __future__ import annotations

from collections.abc import Sequence as Items

from torch import Tensor

from miao_worker.engine.batch import Batch
from miao_worker.engine.model_runner import TransformersRunner
from miao_worker.engine.tensor_parallel.group import Group
from miao_worker.engine.tensor_parallel.messages import ComputeStep, EraseBlocks, Message
from miao_worker.engine.tensor_parallel.ranks import Ranks


class LeadingRunner:
    """The engine's `ModelRunner` at the first rank."""

    def __init__(self, runner: TransformersRunner, ranks: Ranks) -> None:
        """`runner` computes this rank's share, and keeps the news of its block tables."""
        self._runner = runner
        self._ranks = ranks
        self.max_model_length = runner.max_model_length
        self.vocab_size = runner.vocab_size
        self.num_blocks = runner.num_blocks
        self.device = runner.device
        self.dtype = runner.dtype

    def run(self, batch: Batch) -> Tensor:
        """Compute the batch. Returns logits, (rows, vocab), of sampled, then of scored rows."""
        numbers, carried = self._runner.packer.numbers(batch), batch.carried
        news = self._runner.tables.take_news()
        step = ComputeStep(numbers, news, has_carried=carried is not None)
        self._ranks.send_bytes(step.to_bytes())
        if carried is None:
            return self._runner.compute(numbers, None)

        def fill(token_ids: Tensor) -> None:
            carried.fill_(token_ids)
            self._ranks.group.hand_out_(token_ids)

        return self._runner.compute(numbers, fill)

    def erase(self, blocks: Items[int]) -> None:
        self._ranks.send_bytes(EraseBlocks(blocks).to_bytes())
        self._runner.erase(blocks)


class FollowingRunner:
    """Does at another rank what the first one tells."""

    def __init__(self, runner: TransformersRunner, group: Group) -> None:
        self._runner = runner
        self._group = group

    def obey(self, message: Message) -> None:
        """Compute a step, whose logits stay at the first rank, or erase blocks."""
        if isinstance(message, EraseBlocks):
            self._runner.erase(message.blocks)
            return
        for row, start, blocks in message.news:
            self._runner.tables.write(row, start, blocks)
        fill = self._group.hand_out_ if message.has_carried else None
        self._runner.compute(message.numbers, fill)
