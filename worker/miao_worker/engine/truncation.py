"""Top-k, top-p and min-p, as a threshold on each row's scores.

The order and the meaning are those of transformers' logits warpers: top-k, then
top-p on what is left, then min-p; a token that ties with the last one kept
is kept as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.transfer import upload
from miao_worker.engine.types import SamplingParams

_TOP_P_PREFIX = 1024  # tokens looked at before a row is sorted whole


@dataclass(frozen=True, slots=True)
class Truncation:
    """Which rows are truncated and how; an empty list of rows costs nothing."""

    top_k_rows: Tensor  # (n,) int64
    top_k: Tensor  # (n, 1) int64
    max_top_k: int
    top_p_rows: Tensor  # (n,) int64
    top_p: Tensor  # (n, 1) float32
    min_p_rows: Tensor  # (n,) int64
    log_min_p: Tensor  # (n, 1) float32

    @classmethod
    def from_params(cls, params: Items[SamplingParams], device: torch.device) -> Truncation:
        top_k = {i: p.top_k for i, p in enumerate(params) if p.top_k}
        top_p = {i: p.top_p for i, p in enumerate(params) if p.top_p < 1}
        min_p = {i: math.log(p.min_p) for i, p in enumerate(params) if p.min_p}
        return cls(
            top_k_rows=_rows(top_k, device),
            top_k=_column(top_k, np.int64, device),
            max_top_k=max(top_k.values(), default=0),
            top_p_rows=_rows(top_p, device),
            top_p=_column(top_p, np.float32, device),
            min_p_rows=_rows(min_p, device),
            log_min_p=_column(min_p, np.float32, device),
        )


def _rows(values: dict[int, int] | dict[int, float], device: torch.device) -> Tensor:
    return upload(np.array(list(values), dtype=np.int64), device)


def _column(
    values: dict[int, int] | dict[int, float],
    dtype: type[np.int64] | type[np.float32],
    device: torch.device,
) -> Tensor:
    return upload(np.array(list(values.values()), dtype=dtype)[:, None], device)


def truncate_(scores: Tensor, truncation: Truncation) -> None:
    """Set what the rows' truncation excludes to -inf, in place.

    Shapes: scores (rows, vocab) float32, each row's maximum 0.
    """
    if len(truncation.top_k_rows):
        rows = truncation.top_k_rows
        _keep_from_(scores, rows, _top_k_threshold(scores[rows], truncation))
    if len(truncation.top_p_rows):
        rows = truncation.top_p_rows
        _keep_from_(scores, rows, _top_p_threshold(scores[rows], truncation.top_p))
    if len(truncation.min_p_rows):
        _keep_from_(scores, truncation.min_p_rows, truncation.log_min_p)


def _keep_from_(scores: Tensor, rows: Tensor, thresholds: Tensor) -> None:
    chosen = scores[rows]
    scores[rows] = chosen.masked_fill_(chosen < thresholds, -math.inf)


def _top_k_threshold(scores: Tensor, truncation: Truncation) -> Tensor:
    """The k-th best score of each row. Shapes: scores (n, vocab); returns (n, 1)."""
    vocab = scores.shape[-1]
    best = scores.topk(min(truncation.max_top_k, vocab), dim=-1).values
    return best.gather(1, truncation.top_k.clamp(max=vocab) - 1)


def _top_p_threshold(scores: Tensor, top_p: Tensor) -> Tensor:
    """The score of the last token of each row's nucleus.

    A token belongs to it if those before it have less than `top_p` together.
    Shapes: scores (n, vocab), top_p (n, 1); returns (n, 1).
    """
    normalizer = scores.logsumexp(dim=-1, keepdim=True)
    prefix = min(_TOP_P_PREFIX, scores.shape[-1])
    thresholds, complete = _nucleus_end(scores.topk(prefix, dim=-1).values, normalizer, top_p)
    if prefix < scores.shape[-1] and not bool(complete.all()):
        wide = (~complete).nonzero().squeeze(1)
        sorted_scores = scores[wide].sort(dim=-1, descending=True).values
        thresholds[wide] = _nucleus_end(sorted_scores, normalizer[wide], top_p[wide])[0]
    return thresholds


def _nucleus_end(best: Tensor, normalizer: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """The nucleus's last score, and whether the given scores reach its end.

    Shapes: best (n, some) descending; returns (n, 1) and (n,).
    """
    probabilities = (best - normalizer).exp()
    cumulative = probabilities.cumsum(dim=-1)
    inside = (cumulative - probabilities) < top_p
    last = (inside.sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    return best.gather(1, last), cumulative[:, -1] >= top_p.squeeze(1)
