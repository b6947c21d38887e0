"""Decides whether a loaded model runs on the compiled kernels, and proves that it may."""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from transformers import PreTrainedModel

from miao_worker.engine.attention import BATCH_ARGUMENT, AttentionCall
from miao_worker.engine.batch import Batch, Prefill
from miao_worker.engine.cpu import kernels
from miao_worker.engine.cpu.adapt import Adapter, is_adaptable
from miao_worker.engine.cpu.linears import LinearScheme, PlainLinear
from miao_worker.engine.cpu.runner import DecoderRunner
from miao_worker.engine.kv_pool import KVPool
from miao_worker.engine.model_probe import ModelFacts
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams

_TRIAL_TOKENS = 24
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.1}  # of the logits' norm
_ROUNDED_TOLERANCE = 0.5  # quantized: only a wrong formula is to be noticed

_log = logging.getLogger(__name__)


class Fusion:
    """A model that the compiled kernels can run, before it is taken apart."""

    def __init__(
        self,
        model: PreTrainedModel,
        facts: ModelFacts,
        functions: kernels.Kernels,
        scheme: LinearScheme,
    ) -> None:
        self._model = model
        self._facts = facts
        self._functions = functions
        self.scheme = scheme

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        facts: ModelFacts,
        scheme: LinearScheme | None,
        block_size: int,
    ) -> Fusion | None:
        """None where the machine has no kernels or the model needs others."""
        functions = kernels.load()
        scheme = scheme or LinearScheme(facts.dtype, PlainLinear)
        if (
            functions is None
            or model.device.type != "cpu"
            or scheme.activations not in (torch.float32, torch.bfloat16)
            or not is_adaptable(model, facts, block_size)
        ):
            return None
        return cls(model, facts, functions, scheme)

    def runner(
        self, pool: KVPool, max_model_length: int, max_sequences: int
    ) -> DecoderRunner | None:
        """Take the model apart and build its runner; None if its output is not the model's."""
        model, kind = self._model, type(self._model).__name__
        tokens = _trial_tokens(pool, self._facts.vocab_size)
        tolerance = max(_TOLERANCE[model.dtype], _TOLERANCE[self.scheme.activations])
        if self.scheme.is_rounded or pool.is_rounded:
            tolerance = _ROUNDED_TOLERANCE
        expected = _reference_logits(model, tokens)
        positions = max(max_model_length, len(tokens))
        adapter = Adapter(model, self._facts, self._functions, self.scheme, pool, positions)
        runner = DecoderRunner(adapter.decoder(), pool, max_model_length, max_sequences)
        error = _distance(_trial_logits(runner, tokens, pool), expected)
        if error <= tolerance:
            return runner
        _log.warning(
            "%s differs from transformers on the CPU kernels by %.2g of its logits; "
            "it runs on torch's operations instead",
            kind,
            error,
        )
        return None


def _trial_tokens(pool: KVPool, vocab_size: int) -> list[int]:
    count = min(_TRIAL_TOKENS, pool.num_blocks * pool.block_size)
    return [(7 * i * i + 3) % vocab_size for i in range(count)]


def _reference_logits(model: Any, tokens: list[int]) -> Tensor:
    """The model's own logits of the last two tokens: (2, vocab)."""
    token_ids = torch.tensor([tokens], device=model.device)
    with torch.inference_mode():
        output = model(
            input_ids=token_ids,
            position_ids=torch.arange(len(tokens))[None],
            use_cache=False,
            **{BATCH_ARGUMENT: _CausalBackend()},
        )
    logits: Tensor = output.logits[0, -2:]
    return logits.float()


class _CausalBackend:
    """Plain attention within one sequence that is shorter than any window."""

    def attend(self, call: AttentionCall) -> Tensor:
        group = call.query.shape[0] // call.key.shape[0]
        key, value = (x.repeat_interleave(group, 0) for x in (call.key, call.value))
        scores = call.query.float() @ key.float().transpose(-1, -2) * call.scaling
        if call.softcap is not None:
            scores = torch.tanh(scores / call.softcap) * call.softcap
        length, window = scores.shape[-1], call.window or scores.shape[-1]
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        hidden = (distance < 0) | (distance >= window)
        weights = F.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1)
        return (weights @ value.float()).to(call.value.dtype).transpose(0, 1)


def _trial_logits(runner: DecoderRunner, tokens: list[int], pool: KVPool) -> Tensor:
    """The runner's logits of the last two tokens, the last one as a decode: (2, vocab)."""
    blocks = list(range(-(-len(tokens) // pool.block_size)))
    sequence = Sequence(
        sequence_id="trial",
        sampling=SamplingParams(max_tokens=1, seed=0),
        token_ids=tokens[:-1],
        num_prompt_tokens=len(tokens) - 1,
        block_table=blocks,
        row=0,
    )
    prefilled = runner.run(Batch(prefills=[Prefill.of(sequence, len(tokens) - 1)]))
    sequence.token_ids.append(tokens[-1])
    decoded = runner.run(Batch(decodes=[sequence]))
    runner.erase(blocks)
    return torch.cat([prefilled, decoded]).float()


def _distance(found: Tensor, expected: Tensor) -> float:
    """The error's norm over the logits'. A model that is broken by itself agrees with anything."""
    if not torch.isfinite(expected).all():
        return 0.0
    return float((found - expected).norm() / expected.norm().clamp_min(1e-20))
