"""Which tokens a sequence knows, and how often it has said them, as tensors that grow with it.

Penalties concern these alone: a handful, where the vocabulary has a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.transfer import upload

_FIRST_CAPACITY = 256


class KnownTokens:
    """Distinct token ids in the order of their first appearance, with their counts."""

    def __init__(self, device: torch.device) -> None:
        self._places: dict[int, int] = {}  # by token id
        self._ids = torch.zeros(_FIRST_CAPACITY, dtype=torch.int64, device=device)
        self._counts = torch.zeros(_FIRST_CAPACITY, device=device)

    def add(self, token_ids: Items[int], *, are_said: bool) -> None:
        """Learn of tokens; those of a prompt are known and not counted."""
        if not token_ids:
            return
        places, new = self._place(token_ids)
        before, count = len(self._places) - len(new), len(self._places)
        self._make_room(count)
        if new:
            self._ids[before:count].copy_(self._upload(new))
        if are_said:
            at = self._upload(places)
            self._counts.index_add_(0, at, torch.ones_like(at, dtype=torch.float32))

    def with_said(self, token_ids: Items[int]) -> tuple[Tensor, Tensor]:
        """Ids and counts as they would be after these tokens; only read them."""
        count = len(self._places)
        ids, counts = self._ids[:count], self._counts[:count]
        if not token_ids:
            return ids, counts
        places, new = self._place(token_ids)
        for token_id in new:
            del self._places[token_id]
        if new:
            ids = torch.cat([ids, self._upload(new)])
            counts = torch.cat([counts, counts.new_zeros(len(new))])
        at = self._upload(places)
        return ids, counts.index_add(0, at, torch.ones_like(at, dtype=torch.float32))

    def _place(self, token_ids: Items[int]) -> tuple[list[int], list[int]]:
        """Where each token stands; and those that are new, which get places."""
        places, before = self._places, len(self._places)
        at = [places.setdefault(token_id, len(places)) for token_id in token_ids]
        new = [token_id for token_id, place in zip(token_ids, at, strict=True) if place >= before]
        return at, list(dict.fromkeys(new))

    def _make_room(self, count: int) -> None:
        capacity = len(self._ids)
        if count <= capacity:
            return
        more = max(count, 2 * capacity) - capacity
        self._ids = torch.cat([self._ids, self._ids.new_zeros(more)])
        self._counts = torch.cat([self._counts, self._counts.new_zeros(more)])

    def _upload(self, values: Items[int]) -> Tensor:
        return upload(np.array(values, dtype=np.int64), self._ids.device)
