"""Where the adapters meet the linear layers of a model on torch's operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from miao_worker.engine.adapters.files import Modules
from miao_worker.engine.adapters.stack import Part, Site
from miao_worker.engine.adapters.step import Adaptation


def linear_modules(model: PreTrainedModel) -> Modules:
    """The linear layers that an adapter may target: all but the one that gives the logits."""
    head = model.get_output_embeddings()
    found = {}
    for path, module in model.named_modules():
        if module is head:
            continue
        if type(module) is nn.Linear:
            found[path] = (module.in_features, module.out_features)
        elif type(module) is Conv1D:
            inputs, outputs = module.weight.shape
            found[path] = (inputs, outputs)
    return found


def attach(model: PreTrainedModel, modules: Modules, adaptation: Adaptation) -> None:
    """Let each of the layers add what the step's adapters have for it."""
    for path, (_, outputs) in modules.items():
        site = Site((Part(path, 0, outputs),))
        model.get_submodule(path).register_forward_hook(_hook(site, adaptation))


def _hook(site: Site, adaptation: Adaptation) -> Callable[[nn.Module, Any, Tensor], None]:
    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if adaptation.step is not None:
            adaptation.step.add(site, inputs[0], output)

    return add
