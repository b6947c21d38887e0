"""Proposes what a smaller model says.

From Leviathan et al., "Fast Inference from Transformers via Speculative Decoding"
(ICML 2023); `verification` has the rule by which proposals are accepted here.

The draft model has a KV pool of its own and follows each sequence there as a
shadow, which may lag behind: what it has not computed, and what came out
otherwise than it had proposed, it computes before it proposes again. It draws
with the sequence's own parameters and each position's own uniform, since where
the two models agree on the distribution they then agree on the token.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miao_worker.engine.batch import Batch, ModelRunner, Prefill, Proposal
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.sampler import Sampler
from miao_worker.engine.sequence import Sequence


@dataclass(slots=True, eq=False)
class _Shadow:
    """A sequence as the draft model knows it.

    state.token_ids:  [ known to be said ......... | proposed ... ]
                      [ num_known                  ]
    """

    sequence: Sequence
    state: Sequence
    num_known: int = 0
    is_ill: bool = False  # the draft model's output for it was not finite

    @property
    def proposal(self) -> Proposal:
        return tuple(self.state.token_ids[self.num_known :])


class DraftModel:
    """The `Proposer` that runs a second model."""

    usual_length = 4

    def __init__(self, runner: ModelRunner, config: EngineConfig, vocab_size: int) -> None:
        """`vocab_size`: of the logits that the sequences' tokens are drawn from."""
        self._runner = runner
        self._blocks = BlockManager(runner.num_blocks, config.block_size, config.prefix_cache)
        self._max_batch_tokens = config.max_batch_tokens
        self._vocab_size = vocab_size
        self._sampler = Sampler()
        self._shadows: dict[Sequence, _Shadow] = {}
        self._free_rows = list(range(config.max_sequences))

    @property
    def num_free_blocks(self) -> int:
        return self._blocks.num_free_blocks

    def propose(self, sequences: Items[Sequence], lengths: Items[int]) -> list[Proposal]:
        """At most lengths[i] tokens for sequences[i], all of them drafted together.

        A sequence whose tokens the draft model cannot catch up with in this step,
        or has no room for, gets none.
        """
        self._forget_the_ended()
        wanted = {
            shadow: room
            for sequence, length in zip(sequences, lengths, strict=True)
            if length
            and (shadow := self._follow(sequence))
            and (room := self._room(shadow, length))
        }
        drafting = self._catch_up(wanted)
        while drafting:
            drafting = [s for s in drafting if len(s.proposal) < wanted[s]]
            self._draft(Batch(decodes=[shadow.state for shadow in drafting]), drafting)
            drafting = [s for s in drafting if not s.is_ill]
        proposals = {shadow.sequence: shadow.proposal for shadow in wanted}
        return [proposals.get(sequence, ()) for sequence in sequences]

    def _forget_the_ended(self) -> None:
        """Of those that were preempted too: their blocks are for those that run."""
        for sequence in [q for q in self._shadows if q.row is None]:
            state = self._shadows.pop(sequence).state
            self._blocks.release(state)
            assert state.row is not None
            self._free_rows.append(state.row)

    def _follow(self, sequence: Sequence) -> _Shadow | None:
        """The sequence's shadow, which knows all its tokens and holds blocks for them.

        None where it cannot: too long for the draft model, no blocks, or ill.
        """
        shadow = self._shadows.get(sequence) or self._add(sequence)
        if shadow.is_ill or sequence.num_tokens > self._runner.max_model_length:
            return None
        self._learn(shadow)
        state = shadow.state
        covered = self._blocks.grow(state) if state.block_table else self._blocks.admit(state)
        return shadow if covered else None

    def _add(self, sequence: Sequence) -> _Shadow:
        state = Sequence(
            sequence.sequence_id,
            sequence.sampling,
            [],
            sequence.num_prompt_tokens,
            cache_scope=sequence.cache_scope,
        )
        state.row = self._free_rows.pop()
        shadow = self._shadows[sequence] = _Shadow(sequence, state)
        return shadow

    def _learn(self, shadow: _Shadow) -> None:
        """Put what was said in place of what was proposed; what agrees stays computed."""
        state, vocab_size = shadow.state, self._runner.vocab_size
        said = [t if t < vocab_size else 0 for t in shadow.sequence.token_ids[shadow.num_known :]]
        num_right = _common_prefix(said, shadow.proposal)
        right = shadow.num_known + num_right
        state.token_ids[right:] = said[num_right:]
        shadow.num_known = state.num_tokens
        # The last token is always computed again: its logits are wanted.
        state.num_computed_tokens = min(state.num_computed_tokens, right, state.num_tokens - 1)

    def _room(self, shadow: _Shadow, length: int) -> int:
        """How many of `length` tokens can be drafted; the last of them is not computed."""
        length = min(length, self._runner.max_model_length - shadow.num_known + 1)
        return 1 + self._blocks.stretch(shadow.state, length - 1)

    def _catch_up(self, shadows: Iterable[_Shadow]) -> list[_Shadow]:
        """Compute what is known, within a step's tokens; who is done has a first proposal."""
        budget = self._max_batch_tokens
        batch = Batch()
        decoding, prefilled = [], []
        for shadow in shadows:
            num_tokens = min(budget, shadow.state.num_uncomputed_tokens)
            if not num_tokens:
                break
            budget -= num_tokens
            prefill = Prefill.of(shadow.state, num_tokens)
            self._blocks.publish(shadow.state, prefill.end)
            if shadow.state.num_uncomputed_tokens == 1:
                batch.decodes.append(shadow.state)
                decoding.append(shadow)
            else:
                batch.prefills.append(prefill)
                prefilled += [shadow] * prefill.is_last
        ready = decoding + prefilled
        self._draft(batch, ready)
        return [shadow for shadow in ready if not shadow.is_ill]

    def _draft(self, batch: Batch, shadows: list[_Shadow]) -> None:
        """Run the batch; each of the shadows, which yield a token in it, proposes that."""
        if not batch:
            return
        logits = self._fit(self._runner.run(batch))
        batch.mark_computed()
        if not shadows:
            return
        proposed = [shadow.proposal for shadow in shadows]
        tokens = self._sampler.draw(logits, [shadow.sequence for shadow in shadows], proposed)
        for shadow, token_id in zip(shadows, tokens, strict=True):
            if token_id is None:
                self._give_up(shadow)
            else:
                shadow.state.token_ids.append(token_id)

    def _fit(self, logits: Tensor) -> Tensor:
        """Models of one family pad the same vocabulary to different sizes."""
        num_missing = self._vocab_size - logits.shape[-1]
        if num_missing > 0:
            return F.pad(logits, (0, num_missing), value=-torch.inf)
        return logits[:, : self._vocab_size]

    def _give_up(self, shadow: _Shadow) -> None:
        """Propose no more for a sequence, and keep what was computed away from the others."""
        shadow.is_ill = True
        state = shadow.state
        self._runner.erase(self._blocks.withdraw(state))
        self._blocks.release(state)
        del state.token_ids[shadow.num_known :]


def _common_prefix(left: Items[int], right: Items[int]) -> int:
    for count, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return count
    return min(len(left), len(right))
