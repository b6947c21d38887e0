"""An adapter's folder as peft writes it: what is in it, and whether it can be served.

Settings that change what is computed, and are not computed here, are refused by
name; a setting that this version does not know is refused too, unless it is empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from torch import Tensor

from miao_worker.engine.adapters.identity import CONFIG, WEIGHTS, digest_of, missing, read
from miao_worker.engine.errors import AdapterError

# Settings that speak of training, of provenance, or of what the tensors show by themselves.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "lora_ga_config",
    "megatron_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "r",
    "revision", "runtime_config", "target_modules", "task_type", "use_rslora",
}  # fmt: skip
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")  # leave the base as it is

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"

Modules = Mapping[str, tuple[int, int]]  # the base's linear layers by path: inputs, outputs


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """What an adapter adds to each linear layer that it targets: up(down(x)).

    pairs: by the layer's path, down (rank, in) and up (rank, out), the scale in it.
    """

    adapter_id: str
    pairs: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        """The greatest of any layer."""
        return max(down.shape[0] for down, _ in self.pairs.values())


def check(folder: Path, modules: Modules) -> None:
    """Raises AdapterError where the adapter cannot be served over a base of these layers."""
    settings = _settings(folder)
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as tensors:
            shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AdapterError(missing(folder)) from error
    _check_shapes(folder, settings, shapes, modules)


def load(
    folder: Path, adapter_id: str, modules: Modules, dtype: torch.dtype, device: torch.device
) -> AdapterWeights:
    """The adapter's weights. Raises AdapterError, also where its files are no longer the same."""
    if digest_of(folder) != adapter_id:
        raise AdapterError(f"the adapter's files in {folder.name} have changed meanwhile")
    settings = _settings(folder)
    try:
        tensors = load_tensors(read(folder / WEIGHTS))
    except SafetensorError as error:
        raise AdapterError(missing(folder)) from error
    _check_shapes(folder, settings, {k: tuple(t.shape) for k, t in tensors.items()}, modules)
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise AdapterError(f"the adapter {folder.name} has weights that are not finite")
    pairs = {}
    for name, tensor in tensors.items():
        if name.endswith(_DOWN):
            path = name.removeprefix(_PREFIX).removesuffix(_DOWN)
            up = tensors[_PREFIX + path + _UP].float().t() * _scale(settings)
            pairs[path] = (_placed(tensor, dtype, device), _placed(up, dtype, device))
    return AdapterWeights(adapter_id, pairs)


def _placed(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    return tensor.to(device=device, dtype=dtype).contiguous()


def _scale(settings: Mapping[str, Any]) -> float:
    rank, alpha = settings["r"], settings["lora_alpha"]
    return float(alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _settings(folder: Path) -> Mapping[str, Any]:
    """The adapter's settings, once nothing in them asks for more than is served."""
    try:
        settings = json.loads(read(folder / CONFIG))
    except ValueError as error:
        raise AdapterError(f"{CONFIG} of the adapter {folder.name} is no JSON") from error
    fault = "is no JSON object" if not isinstance(settings, dict) else _fault(settings)
    if fault is not None:
        raise AdapterError(f"the adapter {folder.name} cannot be served: its {CONFIG} {fault}")
    return settings  # type: ignore[no-any-return]


def _fault(settings: dict[str, Any]) -> str | None:
    if settings.get("peft_type") != "LORA":
        return f"has the peft_type {settings.get('peft_type')!r}; only LORA is served"
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1:
        return f"has the rank (r) {rank!r}; it must be at least 1"
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        return f"has the lora_alpha {alpha!r}; it must be a number"
    if settings.get("bias", "none") != "none":
        return f"trains biases (bias is {settings['bias']!r}), which is not supported"
    if settings.get("init_lora_weights") not in _PLAIN_STARTS:
        start = settings["init_lora_weights"]
        return f"changes the base's weights (init_lora_weights is {start!r}); convert it first"
    for name, value in settings.items():
        if value and name not in _HARMLESS:
            return f"sets {name}, which is not supported"
    return None


def _check_shapes(
    folder: Path,
    settings: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    modules: Modules,
) -> None:
    rank = settings["r"]
    paths = set()
    for name in shapes:
        path = name.removeprefix(_PREFIX).removesuffix(_DOWN).removesuffix(_UP)
        is_pair = name.startswith(_PREFIX) and name.endswith((_DOWN, _UP))
        if not is_pair or path not in modules:
            raise AdapterError(
                f"the adapter {folder.name} does not fit: it has {name}, "
                "which is no part of a linear layer within the base model's blocks"
            )
        paths.add(path)
    if not paths:
        raise AdapterError(f"the adapter {folder.name} has no weights")
    for path in sorted(paths):
        inputs, outputs = modules[path]
        found = shapes.get(_PREFIX + path + _DOWN), shapes.get(_PREFIX + path + _UP)
        if found != ((rank, inputs), (outputs, rank)):
            raise AdapterError(
                f"the adapter {folder.name} does not fit: at {path} its weights are {found[0]} "
                f"and {found[1]}; the base and rank {rank} need {(rank, inputs)} "
                f"and {(outputs, rank)}"
            )
