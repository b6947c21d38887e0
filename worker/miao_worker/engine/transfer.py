"""Moves small tensors between host and device without making either wait for the other."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def upload(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The values on the device, for what is queued there from now on.

    A copy from ordinary memory would first wait for all that the device has to
    do; one from pinned memory takes its place in the queue. torch keeps the
    pinned memory until the copy is done.
    """
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def send(values: npt.NDArray[Any], target: Tensor) -> None:
    """Put the values in the place of those that `target` has; as `upload`."""
    tensor = torch.from_numpy(values)
    target.copy_(tensor.pin_memory() if target.is_cuda else tensor, non_blocking=True)


class Download:
    """Tensors on their way to the host, behind what was queued on the device before."""

    def __init__(self, *tensors: Tensor) -> None:
        self._copies = tuple(tensor.to("cpu", non_blocking=True) for tensor in tensors)
        self._arrival: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrival.record(torch.cuda.current_stream(tensors[0].device))

    def wait(self) -> tuple[Tensor, ...]:
        """The tensors, on the host."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._copies
