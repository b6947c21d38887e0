"""Log-probabilities of prompt tokens, under the logits of the tokens before them."""

from __future__ import annotations

import math
from collections.abc import Sequence as Items

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.batch import Prefill
from miao_worker.engine.transfer import Download, upload
from miao_worker.engine.types import TokenLogprobs

_ROWS = 64  # turned into float32 at once; the logits of all are there anyway
_MAX_LOGITS = 1 << 26  # of the scored tokens of a step


def max_scored_tokens(vocab_size: int) -> int:
    """Prompt tokens to score in one step, so that their logits stay within bounds."""
    return max(1, _MAX_LOGITS // vocab_size)


class PromptScores:
    """The scores of a step's prefills, on their way to the host."""

    def __init__(self, logits: Tensor, prefills: Items[Prefill]) -> None:
        """Shapes: logits (rows, vocab), a row for each scored position, in their order."""
        self._prefills = prefills
        self._counts = [p.sequence.sampling.num_prompt_logprobs or 0 for p in prefills]
        width = min(max(self._counts), logits.shape[1])
        targets = [p.sequence.token_ids[i + 1] for p in prefills for i in p.scored]
        columns = upload(np.array(targets, dtype=np.int64), logits.device)[:, None]
        parts = [
            _score(logits[begin : begin + _ROWS], columns[begin : begin + _ROWS], width)
            for begin in range(0, len(logits), _ROWS)
        ]
        self._download = Download(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @classmethod
    @torch.inference_mode()
    def of(cls, logits: Tensor, prefills: Items[Prefill]) -> PromptScores | None:
        """None where there are no prefills."""
        return cls(logits, prefills) if prefills else None

    def collect(self) -> list[tuple[Prefill, tuple[TokenLogprobs, ...] | None]]:
        """Each prefill's, once the device has come so far; None where one is not a number."""
        chosen, values, token_ids = (tensor.tolist() for tensor in self._download.wait())
        results: list[tuple[Prefill, tuple[TokenLogprobs, ...] | None]] = []
        row = 0
        for prefill, count in zip(self._prefills, self._counts, strict=True):
            end = row + len(prefill.scored)
            if any(math.isnan(value) for (value,) in chosen[row:end]):
                results.append((prefill, None))
            else:
                tops = zip(token_ids[row:end], values[row:end], strict=True)
                scores = [
                    TokenLogprobs(value, tuple(zip(ids[:count], alternatives[:count], strict=True)))
                    for (value,), (ids, alternatives) in zip(chosen[row:end], tops, strict=True)
                ]
                results.append((prefill, tuple(scores)))
            row = end
        return results


def _score(logits: Tensor, wanted: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the wanted token and the likeliest. Shapes: (rows, 1), (rows, width)."""
    table = torch.log_softmax(logits.float(), dim=-1)
    values, token_ids = table.topk(width, dim=-1)
    return table.gather(1, wanted), values, token_ids
