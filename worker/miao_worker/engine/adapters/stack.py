"""The low-rank weights of several adapters side by side, so that one product serves them all.

For a linear layer, here a *site*, of which each adapter targets some parts:

    h = x @ down.T       down (columns, in): the ranks of all adapters, one after the other
    h = 0 where a row's adapter is not the column's
    y += h @ up          up (columns, out): zero outside the part that a column is for

Two products and a mask, however many adapters there are; a row without one gets
exact zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from miao_worker.engine.adapters.files import AdapterWeights


@dataclass(frozen=True, slots=True)
class Part:
    """A linear layer of the model, and which outputs of its site are its own."""

    path: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One product of the runner: one linear layer, or several joined.

    is_chosen: it computes only the rows whose logits are wanted, in their order.
    """

    parts: tuple[Part, ...]
    is_chosen: bool = False

    @property
    def out_features(self) -> int:
        return self.parts[-1].end


Layout = tuple[tuple[int, int], ...]  # (adapter's place in the stack, columns)


@dataclass(frozen=True, slots=True)
class Stacked:
    """The weights of one site."""

    down: Tensor  # (columns, in)
    up: Tensor  # (columns, out)
    layout: Layout


class Stack:
    """Some adapters' weights, brought together site by site when they are first needed."""

    def __init__(self, members: Sequence[AdapterWeights]) -> None:
        self.members = tuple(members)
        self.places = {member.adapter_id: i for i, member in enumerate(members)}
        self.num_columns = sum(member.rank for member in members)
        self._sites: dict[Site, Stacked | None] = {}

    def at(self, site: Site) -> Stacked | None:
        """The site's weights; None where no member targets it."""
        if site not in self._sites:
            self._sites[site] = self._join(site)
        return self._sites[site]

    def _join(self, site: Site) -> Stacked | None:
        downs, ups, layout = [], [], []
        for place, member in enumerate(self.members):
            columns = 0
            for part in site.parts:
                pair = member.pairs.get(part.path)
                if pair is None:
                    continue
                down, up = pair
                wide = up.new_zeros(up.shape[0], site.out_features)
                wide[:, part.begin : part.end] = up
                downs.append(down)
                ups.append(wide)
                columns += down.shape[0]
            if columns:
                layout.append((place, columns))
        if not layout:
            return None
        return Stacked(torch.cat(downs), torch.cat(ups), tuple(layout))
