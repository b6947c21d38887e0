"""Finds out at load what a model's attention looks like, and refuses what is not served.

The probe runs two tokens through the model and answers its attention calls
with zeros. A layer that never calls, or asks for what the paged attention does
not do, would give wrong output silently; here it gives a sentence.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from miao_worker.engine.attention import BATCH_ARGUMENT, AttentionCall
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.kv_pool import LayerShape

_LAYER_TYPES = {"full_attention", "sliding_attention"}
# Arguments that carry no meaning for an inference step without a mask.
_HARMLESS = {"dropout", "position_ids", "use_cache", "output_attentions", "output_hidden_states",
             "output_router_logits", "cache_position", "return_dict", "logits_to_keep",
             "position_embeddings", "past_key_values", "is_causal"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AttentionFacts:
    """How one layer asks for its attention."""

    heads: int
    scaling: float
    window: int | None
    softcap: float | None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the engine needs to know of a loaded model."""

    layers: dict[int, LayerShape]
    calls: dict[int, AttentionFacts]
    vocab_size: int
    context_length: int | None  # None: the configuration names none
    dtype: torch.dtype
    takes_logits_to_keep: bool
    is_cache_rounded: bool = False  # keys and values in 8 bits

    @property
    def token_bytes(self) -> int:
        """What the keys and values of one token take in all layers."""
        shapes = self.layers.values()
        return sum(shape.token_bytes(self.dtype, self.is_cache_rounded) for shape in shapes)


def probe(model: PreTrainedModel, name: str) -> ModelFacts:
    """Raises ModelLoadError where the model's attention cannot be served."""
    config = model.config.get_text_config(decoder=True)
    _check_layer_types(config, name)
    backend = _ProbeBackend()
    _run(model, backend, name)
    fault = backend.fault or _layers_fault(backend, config)
    if fault is not None:
        raise ModelLoadError(f"{name} ({config.model_type}) {fault}; choose another model.")
    return ModelFacts(
        layers=backend.layers,
        calls=backend.calls,
        vocab_size=model.get_input_embeddings().num_embeddings,  # type: ignore[arg-type]
        context_length=_context_length(config),
        dtype=next(iter(backend.dtypes)),
        takes_logits_to_keep="logits_to_keep" in inspect.signature(model.forward).parameters,
    )


class _ProbeBackend:
    """Notes each layer's shape and the first thing that cannot be served."""

    def __init__(self) -> None:
        self.layers: dict[int, LayerShape] = {}
        self.calls: dict[int, AttentionFacts] = {}
        self.dtypes: set[torch.dtype] = set()
        self.fault: str | None = None

    def attend(self, call: AttentionCall) -> Tensor:
        self.fault = self.fault or self._fault(call)
        kv_heads, tokens, key_dim = call.key.shape
        value_dim = call.value.shape[-1]
        self.layers[call.layer] = LayerShape(kv_heads, key_dim, value_dim)
        heads = call.query.shape[0]
        self.calls[call.layer] = AttentionFacts(heads, call.scaling, call.window, call.softcap)
        self.dtypes |= {call.query.dtype, call.key.dtype, call.value.dtype}
        return call.query.new_zeros(tokens, heads, value_dim)

    def _fault(self, call: AttentionCall) -> str | None:
        if call.layer in self.layers:
            return "calls the attention of a layer twice, which is not supported"
        if not _is_causal(call):
            return "attends in both directions, which is no causal language model"
        if call.query.shape[0] % call.key.shape[0]:
            return "has query heads that its kv heads do not divide"
        unknown = {k for k, v in call.others.items() if v is not None} - _HARMLESS
        if unknown:
            return f"needs attention with {', '.join(sorted(unknown))}, which is not supported"
        return None


def _is_causal(call: AttentionCall) -> bool:
    asked = call.others.get("is_causal")
    return bool(getattr(call.module, "is_causal", True) if asked is None else asked)


def _run(model: PreTrainedModel, backend: _ProbeBackend, name: str) -> None:
    token_ids = torch.zeros(1, 2, dtype=torch.int64, device=model.device)
    positions = torch.arange(2, device=model.device)[None]
    try:
        with torch.inference_mode():
            model(
                input_ids=token_ids,
                position_ids=positions,
                use_cache=False,
                **{BATCH_ARGUMENT: backend},
            )
    except Exception as error:
        raise ModelLoadError(
            f"{name} ({model.config.model_type}) does not run on packed sequences with the "
            f"attention interface of transformers ({type(error).__name__}); choose another model."
        ) from error


def _check_layer_types(config: PretrainedConfig, name: str) -> None:
    kinds = set(getattr(config, "layer_types", None) or ()) - _LAYER_TYPES
    if getattr(config, "attention_chunk_size", None):
        kinds.add("chunked_attention")
    if kinds:
        raise ModelLoadError(
            f"{name} ({config.model_type}) has layers of {', '.join(sorted(kinds))}, which are "
            "not supported; choose a model with full or sliding attention."
        )


def _layers_fault(backend: _ProbeBackend, config: PretrainedConfig) -> str | None:
    if len(backend.layers) != config.num_hidden_layers:
        return (
            f"uses the attention interface of transformers in {len(backend.layers)} of "
            f"{config.num_hidden_layers} layers, where all are needed"
        )
    if len(backend.dtypes) != 1:
        return "mixes dtypes in its attention, which is not supported"
    types = getattr(config, "layer_types", None) or ()
    slides = {i for i, kind in enumerate(types) if kind == "sliding_attention"}
    if any(i not in backend.calls or backend.calls[i].window is None for i in slides):
        return "has sliding layers that do not name their window, which is not supported"
    return None


def _context_length(config: PretrainedConfig) -> int | None:
    """The positions the model knows, each with one meaning.

    With dynamic or long rotary scaling a token's rotation depends on the longest
    sequence of the batch, so these models are held to their original length.
    """
    length: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    original = rope.get("original_max_position_embeddings") or getattr(
        config, "original_max_position_embeddings", None
    )
    if rope.get("rope_type") in ("dynamic", "longrope") and original:
        return int(original)
    return length
