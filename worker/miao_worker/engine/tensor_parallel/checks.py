"""Which settings several ranks can serve together."""

from __future__ import annotations

import sys

import torch

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError


def check_tensor_parallel(config: EngineConfig) -> None:
    """Raises ModelLoadError that names both settings which do not go together."""
    size = f"tensor_parallel_size is {config.tensor_parallel_size}"
    if config.tensor_parallel_size < 1:
        raise ModelLoadError(f"{size}; it must be at least 1.")
    if sys.platform != "linux":
        raise ModelLoadError(f"{size}; several processes for one model need Linux.")
    for setting, is_set in {
        f"prune {config.prune}": config.prune is not None,
        f"max_adapters {config.max_adapters}": config.max_adapters > 0,
        f"task {config.task}": config.task not in ("auto", "generate"),
        f"device {config.device}": config.device not in (None, "cpu", "cuda"),
    }.items():
        if is_set:
            raise ModelLoadError(f"{size}, which does not go together with {setting}.")


def check_task(config: EngineConfig, task: str) -> None:
    """Raises ModelLoadError for a model that does not generate, where several ranks are to run."""
    if config.tensor_parallel_size > 1:
        raise ModelLoadError(
            f"tensor_parallel_size is {config.tensor_parallel_size}, which does not go together "
            f"with task {task}, the model's."
        )


def rank_device(config: EngineConfig, rank: int) -> torch.device:
    """Where a rank computes: on GPUs, on that of its number. Raises ModelLoadError."""
    wanted = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cpu":
        return torch.device("cpu")
    size, num_gpus = config.tensor_parallel_size, torch.cuda.device_count()
    if num_gpus < size:
        raise ModelLoadError(
            f"tensor_parallel_size is {size}, and {num_gpus} GPUs are here; each rank needs one. "
            "Set device to cpu, or a smaller tensor_parallel_size."
        )
    return torch.device("cuda", rank)
