"""Makes engines of either kind explain."""

from __future__ import annotations

from dataclasses import replace

import torch
from transformers import AutoModelForCausalLM

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.activation import Activation
from miao_worker.engine.encoder.engine import EncoderEngine
from miao_worker.engine.encoder.runner import PaddedRunner
from miao_worker.engine.encoder.types import EncoderTask
from miao_worker.engine.engine import Engine
from miao_worker.engine.explain.engine import ExplainingEngine
from miao_worker.engine.explain.explanation import Explanation
from miao_worker.engine.explain.gradient_sources import (
    CopiedModel,
    GradientSource,
    NoGradients,
    SharedModel,
    attention_for,
)
from miao_worker.engine.explain.gradients import GradientModel, RefusedError
from miao_worker.engine.explain.of_label import LabelExplanation
from miao_worker.engine.explain.of_output import OutputExplanation
from miao_worker.engine.explain.turns import Turns
from miao_worker.engine.explain.types import ExplanationRequest, LabelTarget, Method, OutputTarget
from miao_worker.engine.loader import load_config, load_model
from miao_worker.engine.memory import free_bytes
from miao_worker.engine.protocol import ServingEngine
from miao_worker.engine.pruning import prune_model

_SPARE = 1.2  # times the copy's size that has to be free, besides what the gradients take


def explain_generation(engine: Engine, config: EngineConfig) -> ExplainingEngine:
    """An engine that generates, and explains what it says."""
    return ExplainingEngine(engine, methods(config), _explain_output, _gradients(engine, config))


def explain_without_gradients(engine: ServingEngine, *, explains: bool) -> ExplainingEngine:
    """An engine that generates, explained by what it says when a token is left out."""
    methods = (Method.LEAVE_ONE_OUT,) if explains else ()
    return ExplainingEngine(engine, methods, _explain_output, NoGradients())


def explain_classification(
    engine: EncoderEngine, runner: PaddedRunner, config: EngineConfig
) -> ExplainingEngine:
    """An engine of an encoder; one that classifies texts explains its labels."""
    loaded = runner.loaded
    if loaded.task is not EncoderTask.CLASSIFY:
        return ExplainingEngine(engine, (), _explain_output, NoGradients())

    def explain_label(request: ExplanationRequest) -> Explanation:
        return _explain_label(request, loaded.activation, len(loaded.labels))

    source: GradientSource = NoGradients()
    if config.explain == "all":
        source = SharedModel(GradientModel(loaded.model, config.explain_bytes))
    return ExplainingEngine(engine, methods(config), explain_label, source)


def methods(config: EngineConfig) -> tuple[Method, ...]:
    """How a worker with these settings explains."""
    match config.explain:
        case "all":
            return tuple(Method)
        case "leave-one-out":
            return (Method.LEAVE_ONE_OUT,)
    return ()


def _explain_output(request: ExplanationRequest) -> Explanation:
    if not isinstance(request.target, OutputTarget):
        raise RefusedError("the model does not classify")
    if request.target.adapter is not None and request.method.needs_gradients:
        raise RefusedError("of adapters no gradients are taken: leave one out")
    return OutputExplanation(request, request.target)


def _explain_label(
    request: ExplanationRequest, activation: Activation, num_labels: int
) -> Explanation:
    if not isinstance(request.target, LabelTarget):
        raise RefusedError("the model does not generate")
    return LabelExplanation(request, request.target, activation, num_labels)


def _gradients(engine: Engine, config: EngineConfig) -> GradientSource:
    if config.explain != "all":
        return NoGradients()
    model = engine.original_model
    if model is None:
        return CopiedModel(lambda: _copy(config))
    attention = attention_for(model.config)
    return SharedModel(GradientModel(model, config.explain_bytes, attention))


def _copy(config: EngineConfig) -> GradientModel:
    """The model as its files have it, in float32 and in the machine's memory."""
    device, plain = torch.device("cpu"), replace(config, dtype="float32", quantize=None)
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(load_config(config.model))
    size = 4 * sum(parameter.numel() for parameter in skeleton.parameters())
    needed, free = int(_SPARE * size) + config.explain_bytes, free_bytes(device)
    if needed > free:
        raise RefusedError(
            f"gradients need a copy of the weights: {needed / 2**30:.1f} GiB in all, and "
            f"{free / 2**30:.1f} GiB are free; leave one out"
        )
    model = load_model(plain, device, attention_for(skeleton.config))
    if config.prune is not None:
        prune_model(model, config.prune)
    return GradientModel(model, config.explain_bytes, turns=Turns())
