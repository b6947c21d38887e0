"""Changes a sequence's logits by what it has said and what it was asked for.

In transformers' order: the bias, the repetition penalty (Keskar et al., CTRL, 2019:
over prompt and output), the frequency and presence penalties (over the output), what
must not be said, and stop tokens held back until the output is long enough. The counts grow by each
new token, and only known tokens are penalised: a step costs what these are, not the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.bans import Bans
from miao_worker.engine.batch import Proposal
from miao_worker.engine.known_tokens import KnownTokens
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.transfer import upload


class Adjustment:
    """What one sequence needs to have its logits changed, kept from step to step."""

    def __init__(self, sequence: Sequence, device: torch.device, vocab_size: int) -> None:
        params = sequence.sampling
        self._sequence = sequence
        self._num_counted = 0  # tokens of the sequence that the counts hold
        self._device = device
        self._known = KnownTokens(device)
        self._counts_tokens = params.counts_tokens
        bias = dict(params.logit_bias)
        self._bias_ids = upload(np.array(list(bias), dtype=np.int64), device)
        self._bias = upload(np.array(list(bias.values()), dtype=np.float32), device)
        self._bans = Bans(params.bad_token_ids)
        banned = np.array(self._bans.always, dtype=np.int64)
        self._banned = upload(banned, device)
        can_stop = [
            i for i in params.stop_token_ids if i < vocab_size
        ]  # the others are never drawn
        stops = np.array(sorted(can_stop), dtype=np.int64)
        self._stops = upload(stops, device)

    def apply_(self, logits: Tensor, proposed: Proposal = ()) -> None:
        """Change the logits of the sequence's next token, in place. Shape: (vocab,) float32.

        With proposed tokens: of the one that comes after them. They are not kept.
        """
        params = self._sequence.sampling
        if len(self._bias_ids):
            logits.index_add_(0, self._bias_ids, self._bias)
        if self._counts_tokens:
            self._count()
            self._penalise_(logits, *self._known.with_said(proposed))
        if len(self._banned):
            logits.index_fill_(0, self._banned, -torch.inf)
        completing = self._bans.completing(self._sequence.token_ids, proposed)
        if completing:
            logits.index_fill_(0, self._indices(completing), -torch.inf)
        num_output_tokens = self._sequence.num_output_tokens + len(proposed)
        if self._sequence.guide is not None:
            return  # its mask holds the stops back, where anything else is allowed
        if len(self._stops) and num_output_tokens < params.min_tokens:
            logits.index_fill_(0, self._stops, -torch.inf)

    def _count(self) -> None:
        tokens, begin = self._sequence.token_ids, self._num_counted
        if begin == len(tokens):
            return
        border = max(begin, self._sequence.num_prompt_tokens)
        self._known.add(tokens[begin:border], are_said=False)
        self._known.add(tokens[border:], are_said=True)
        self._num_counted = len(tokens)

    def _penalise_(self, logits: Tensor, ids: Tensor, counts: Tensor) -> None:
        """Shapes: ids and counts (known tokens,)."""
        params = self._sequence.sampling
        values = logits.index_select(0, ids)
        if params.repetition_penalty != 1:
            penalty = params.repetition_penalty
            values = torch.where(values < 0, values * penalty, values / penalty)
        if params.frequency_penalty:
            values.sub_(counts, alpha=params.frequency_penalty)
        if params.presence_penalty:
            values.sub_(counts.clamp(max=1), alpha=params.presence_penalty)
        logits.index_copy_(0, ids, values)

    def _indices(self, token_ids: Items[int]) -> Tensor:
        return upload(np.array(token_ids, dtype=np.int64), self._device)


def adjusted(
    logits: Tensor, sequences: Items[Sequence], proposed: Items[Proposal] | None = None
) -> Tensor:
    """The logits with each sequence's adjustments; the same tensor where there are none.

    Shapes: logits (rows, vocab), row i of sequences[i] after its tokens and
    proposed[i]; the result is float32 where anything was changed.
    """
    rows = [i for i, sequence in enumerate(sequences) if sequence.sampling.adjusts_logits]
    if not rows:
        return logits
    result = logits.to(torch.float32, copy=True)
    for row in rows:
        sequence = sequences[row]
        if not isinstance(sequence.adjustment, Adjustment):
            sequence.adjustment = Adjustment(sequence, logits.device, logits.shape[-1])
        sequence.adjustment.apply_(result[row], proposed[row] if proposed else ())
    return result
