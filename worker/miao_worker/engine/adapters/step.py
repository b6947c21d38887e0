"""What the adapters add in one step: which row is whose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from miao_worker.engine.adapters.files import AdapterWeights
from miao_worker.engine.adapters.stack import Layout, Site, Stack, Stacked
from miao_worker.engine.batch import Batch
from miao_worker.engine.packing import sampled_places

_FEW_ROWS = 128  # for which one product of all adapters costs less than one for each


class AdapterStep:
    """Adds the adapters' share to the products of one step."""

    def __init__(self, stack: Stack, batch: Batch, device: torch.device) -> None:
        self._stack = stack
        self._device = device
        owners = _owners(batch, stack.places)  # (rows,) places in the stack, or -1
        self._owners = {False: owners, True: owners[sampled_places(batch)]}  # by is_chosen
        self._masks: dict[tuple[Layout, bool], Tensor] = {}
        self._groups: dict[bool, dict[int, Tensor]] = {}

    @property
    def members(self) -> tuple[AdapterWeights, ...]:
        """The adapters at hand; some may have no row."""
        return self._stack.members

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """Each row's adapter by its place among them, -1 for none: (rows,)."""
        return self._owners[False]

    def touches(self, site: Site) -> bool:
        """Whether anything is added at this site."""
        return self._stack.at(site) is not None

    def add(self, site: Site, x: Tensor, y: Tensor) -> None:
        """Add to y, in place. Shapes: x (..., in), y (..., out), of the site's rows."""
        stacked = self._stack.at(site)
        if stacked is None:
            return
        x, y = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        if len(x) <= _FEW_ROWS:
            hidden = F.linear(x, stacked.down)
            hidden.masked_fill_(self._foreign(stacked.layout, site.is_chosen), 0)
            _add_product(y, hidden, stacked.up)
        else:
            self._add_by_adapter(stacked, self._groups_of(site.is_chosen), x, y)

    def _add_by_adapter(
        self, stacked: Stacked, groups: Mapping[int, Tensor], x: Tensor, y: Tensor
    ) -> None:
        begin = 0
        for place, columns in stacked.layout:
            down, up = (w[begin : begin + columns] for w in (stacked.down, stacked.up))
            begin += columns
            rows = groups.get(place)
            if rows is None:
                continue
            if len(rows) == len(x):
                _add_product(y, F.linear(x, down), up)
            else:
                added = F.linear(x.index_select(0, rows), down) @ up
                y.index_add_(0, rows, added.to(y.dtype))

    def _foreign(self, layout: Layout, is_chosen: bool) -> Tensor:
        """Which columns are not of a row's adapter: (rows, columns)."""
        mask = self._masks.get((layout, is_chosen))
        if mask is None:
            columns = np.repeat([place for place, _ in layout], [count for _, count in layout])
            foreign = self._owners[is_chosen][:, None] != columns[None, :]
            mask = torch.from_numpy(foreign).to(self._device)
            self._masks[layout, is_chosen] = mask
        return mask

    def _groups_of(self, is_chosen: bool) -> Mapping[int, Tensor]:
        """The rows of each adapter, by its place."""
        groups = self._groups.get(is_chosen)
        if groups is None:
            owners = self._owners[is_chosen]
            groups = self._groups[is_chosen] = {
                int(place): torch.from_numpy(np.flatnonzero(owners == place)).to(self._device)
                for place in np.unique(owners)
                if place >= 0
            }
        return groups


class Adaptation:
    """The present step's share of the adapters; a runner sets it, its linear layers ask for it."""

    def __init__(self) -> None:
        self.step: AdapterStep | None = None


def _add_product(y: Tensor, hidden: Tensor, up: Tensor) -> None:
    if y.dtype == hidden.dtype:
        y.addmm_(hidden, up)
    else:
        y.add_(hidden @ up)


def _owners(batch: Batch, places: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Each row's adapter by its place, -1 for none: (rows,)."""
    decodes = [places.get(q.adapter or "", -1) for q in batch.decode_rows]
    chunks = [places.get(p.sequence.adapter or "", -1) for p in batch.prefills]
    counts = [p.num_tokens for p in batch.prefills]
    parts = [np.array(decodes, dtype=np.int64), np.repeat(np.array(chunks, np.int64), counts)]
    return np.concatenate(parts)
