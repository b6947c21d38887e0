"""Memory whose reading does not wait for page tables, where the system grants it."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor

LARGE_PAGE = 2 << 20  # bytes


def zeros(num_bytes: int) -> Tensor:
    """Zeros (num_bytes,) uint8 in pages of 2 MiB, committed when they are first written."""
    size = -(-num_bytes // LARGE_PAGE) * LARGE_PAGE
    # Private: shared memory gets large pages by another rule, which is mostly off.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:num_bytes]
