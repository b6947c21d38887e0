"""What the ranks of a model do together: add up, gather, hand around."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

# For one exchange. Who waits longer ends, so that a rank that hangs holds nobody for good.
_TIMEOUT = timedelta(seconds=60)


class Group:
    """One rank's place among the processes that compute a model together.

    Every rank has to come to the same calls in the same order.
    """

    def __init__(self, rank: int, size: int, store_path: str) -> None:
        """store_path: a file by which the ranks find each other."""
        self.rank = rank
        self.size = size
        self._store_path = store_path

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def connect(self, device: torch.device) -> None:
        """Meet the others; waits until all have come."""
        is_cuda = device.type == "cuda"
        if is_cuda:
            torch.cuda.set_device(device)
        # All on one machine: nothing needs to listen to the network.
        os.environ.setdefault("NCCL_SOCKET_IFNAME" if is_cuda else "GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            "nccl" if is_cuda else "gloo",
            store=dist.FileStore(self._store_path, self.size),  # type: ignore[attr-defined]
            rank=self.rank,
            world_size=self.size,
            timeout=_TIMEOUT,
            device_id=device if is_cuda else None,
        )

    def sum_(self, partial: Tensor) -> Tensor:
        """The sum of all ranks' tensors, in place."""
        if partial.numel():
            dist.all_reduce(partial)
        return partial

    def hand_out_(self, tensor: Tensor) -> None:
        """Give every rank what the first one has in its tensor."""
        dist.broadcast(tensor, src=0)

    def gather(self, piece: Tensor, width: int) -> Tensor:
        """The last dimension's pieces put together at the first rank; elsewhere the own one.

        width: of the whole, of which each rank has `piece_of(width)`.
        """
        if not piece.shape[:-1].numel():  # no row, at any rank
            return piece.new_empty(*piece.shape[:-1], width)
        piece = F.pad(piece, (0, -(-width // self.size) - piece.shape[-1])).contiguous()
        pieces = [torch.empty_like(piece) for _ in range(self.size)] if self.leads else None
        dist.gather(piece, pieces, dst=0)
        return piece if pieces is None else torch.cat(pieces, dim=-1)[..., :width]

    def gather_all(self, piece: Tensor) -> Tensor:
        """The last dimension's pieces, which are of one size, put together at every rank."""
        pieces = [torch.empty_like(piece) for _ in range(self.size)]
        dist.all_gather(pieces, piece.contiguous())
        return torch.cat(pieces, dim=-1)

    def piece_of(self, count: int) -> range:
        """The rank's piece of `count` things in a row; the last ranks' may be smaller."""
        step = -(-count // self.size)
        return range(min(self.rank * step, count), min((self.rank + 1) * step, count))
