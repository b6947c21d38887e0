"""What adapters add to the layers' products, as the kernels take it (adapters.c).

An adapter is packed once, when it first comes to a step: for each product of each
layer its ranks side by side, and the way up in the order of the product's panels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from miao_worker.engine.adapters.files import AdapterWeights
from miao_worker.engine.adapters.stack import Site
from miao_worker.engine.adapters.step import AdapterStep
from miao_worker.engine.cpu.kernels import AdaptersStruct, LowRankStruct, OwnersStruct
from miao_worker.engine.cpu.products import ProductLinear

_LANES = 16  # outputs of half a panel
_SPAN = 4  # columns that the kernel computes at once

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StepAdapters:
    """The kernels' view of a step's adapters, and the memory it points to."""

    struct: AdaptersStruct
    kept: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Packed:
    """One adapter: its share of each product, and the memory of that."""

    structs: ctypes.Array[LowRankStruct]
    columns: int  # the most of any product
    kept: tuple[Tensor, ...]


class FusedAdapters:
    """Packs adapters for the products of some layers. Holds those of the last step."""

    def __init__(self, products: Sequence[tuple[ProductLinear, Site]]) -> None:
        """`products`: the layers', in their order, with what each is made of."""
        self._products = tuple(products)
        self._packed: dict[str, _Packed] = {}

    def of(self, step: AdapterStep, wanted: Tensor | None) -> StepAdapters:
        """What the step's rows have. Shapes: wanted (n,) of the last layer's rows, ascending."""
        known = self._packed
        self._packed = {
            each.adapter_id: known.get(each.adapter_id) or self._pack(each) for each in step.members
        }
        packed = list(self._packed.values())
        weights = (ctypes.c_void_p * len(packed))(*(ctypes.addressof(p.structs) for p in packed))
        owners = step.owners
        chosen = owners if wanted is None else owners[wanted.numpy()]
        (every, kept), (some, kept_too) = (_owners(each, len(packed)) for each in (owners, chosen))
        struct = AdaptersStruct(
            len(packed),
            max(each.columns for each in packed),
            ctypes.addressof(weights),
            every,
            some,
        )
        return StepAdapters(struct, (weights, packed, kept, kept_too))

    def _pack(self, adapter: AdapterWeights) -> _Packed:
        structs = (LowRankStruct * len(self._products))()
        kept: list[Tensor] = []
        for index, (product, site) in enumerate(self._products):
            tensors = _low_rank(adapter, product, site)
            if tensors is not None:
                pointers = [tensor.data_ptr() for tensor in tensors]
                structs[index] = LowRankStruct(len(tensors[0]), *pointers)
                kept += tensors
        return _Packed(structs, max(each.columns for each in structs), tuple(kept))


def _low_rank(
    adapter: AdapterWeights, product: ProductLinear, site: Site
) -> tuple[Tensor, Tensor, Tensor] | None:
    """The way down, the way up and its halves, as `LowRank` has them; None: nothing is added."""
    parts = [(part, *adapter.pairs[part.path]) for part in site.parts if part.path in adapter.pairs]
    if not parts:
        return None
    ranks = np.array([len(down) for _, down, _ in parts])
    ends = ranks.cumsum()
    columns = -(-int(ends[-1]) // _SPAN) * _SPAN
    first = parts[0][1]
    down = first.new_zeros(columns, product.in_features)
    up = first.new_zeros(columns, site.out_features)
    order = product.order.view(-1, _LANES)
    lowest, highest = order.amin(1).numpy(), order.amax(1).numpy()
    begins = np.full(len(order), columns)
    behinds = np.zeros(len(order), dtype=np.int64)
    for (part, part_down, part_up), rank, end in zip(parts, ranks, ends, strict=True):
        down[end - rank : end] = part_down
        up[end - rank : end, part.begin : part.end] = part_up
        reads = (lowest < part.end) & (highest >= part.begin)
        begins[reads] = np.minimum(begins[reads], end - rank)
        behinds[reads] = np.maximum(behinds[reads], end)
    pairs, counts = begins // 2, np.maximum(0, (behinds + 1) // 2 - begins // 2)
    halves = np.stack([pairs, counts, counts.cumsum() - counts], axis=1).astype(np.int64)
    return down, _up_by_halves(up[:, product.order], halves), torch.from_numpy(halves)


def _up_by_halves(up: Tensor, halves: Indices) -> Tensor:
    """The pairs of columns that each half reads. Shapes: up (columns, halves * 16); (.., 16, 2)."""
    by_half = up.view(-1, 2, len(halves), _LANES)
    packed = up.new_empty(int(halves[:, 1].sum()), _LANES, 2)
    for first, count in np.unique(halves[:, :2], axis=0).tolist():
        alike = np.flatnonzero((halves[:, 0] == first) & (halves[:, 1] == count))
        places = halves[alike, 2][:, None] + np.arange(count)
        read = by_half[first : first + count][:, :, torch.from_numpy(alike)]
        packed[torch.from_numpy(places)] = read.permute(2, 0, 3, 1)
    return packed


def _owners(owners: Indices, num_adapters: int) -> tuple[OwnersStruct, tuple[Indices, ...]]:
    """Whose each row is, and each adapter's rows."""
    owners = np.ascontiguousarray(owners)
    starts = np.zeros(num_adapters + 1, dtype=np.int64)
    np.cumsum(np.bincount(owners[owners >= 0], minlength=num_adapters), out=starts[1:])
    rows = np.argsort(owners, kind="stable")[len(owners) - starts[-1] :]
    arrays = (owners, starts, np.ascontiguousarray(rows))
    return OwnersStruct(*(array.ctypes.data for array in arrays)), arrays
