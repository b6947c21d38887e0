"""Rounded models end to end: the bundled model under each scheme that a CPU has."""

from __future__ import annotations

import pytest
import torch

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cpu import kernels, linears
from miao_worker.engine.cpu.runner import DecoderRunner
from miao_worker.engine.cpu.weights import WeightLinear
from miao_worker.engine.engine import Engine
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.types import SamplingParams, SequenceRequest

LEVELS = kernels.available()
needs_kernels = pytest.mark.skipif(not LEVELS, reason="built without the compiled kernels")
WEIGHT_SCHEMES = ["int8-weight", "int4-weight"]


def engine_of(**settings):
    return Engine(EngineConfig(str(bundled_model_path()), device="cpu", **settings))


def run(engine, *indices, num_tokens=12):
    """The tokens of some prompts, all in one batch."""
    sampling = SamplingParams(max_tokens=num_tokens, seed=0, temperature=0)
    for i in indices:
        prompt = tuple(300 + (37 * i + j * j) % 3000 for j in range(5 + 9 * i))
        engine.add(SequenceRequest(str(i), prompt, sampling))
    tokens = dict.fromkeys(indices, ())
    while engine.has_unfinished:
        for output in engine.step().outputs:
            tokens[int(output.sequence_id)] += output.token_ids
    return tokens


@pytest.fixture
def wide(monkeypatch):
    """As on a CPU without products on bfloat16."""
    monkeypatch.setattr(kernels.Kernels, "has_narrow_weights", False)


@needs_kernels
@pytest.mark.parametrize("scheme", WEIGHT_SCHEMES)
def test_rounded_weights_give_the_same_alone_and_in_a_batch(scheme):
    engine = engine_of(quantize=scheme, prefix_cache=False)
    assert isinstance(engine._runner, DecoderRunner)
    assert engine.dtype == scheme
    together = run(engine, 0, 1, 2, 3)
    for i in together:
        assert run(engine, i) == {i: together[i]}


@needs_kernels
@pytest.mark.parametrize("scheme", WEIGHT_SCHEMES)
def test_rounded_weights_run_in_float32_too(scheme, wide):
    engine = engine_of(quantize=scheme)
    assert engine._runner.dtype == torch.float32
    assert len(run(engine, 1)[1]) == 12


@needs_kernels
def test_a_model_that_keeps_its_own_layers_gets_rounded_ones(monkeypatch):
    from miao_worker.engine import model_runner

    monkeypatch.setattr(model_runner.Fusion, "of", lambda *_: None)
    engine = engine_of(quantize="int4-weight")
    found = [m for m in engine._runner._model.modules() if isinstance(m, WeightLinear)]
    assert {m.bits for m in found} == {4, 8}
    assert engine._runner._model.get_output_embeddings().bits == 8
    assert len(run(engine, 1)[1]) == 12


@pytest.mark.parametrize("scheme", ["int8", *WEIGHT_SCHEMES])
def test_without_kernels_rounding_is_refused(scheme):
    with pytest.raises(ModelLoadError, match=rf"quantize is {scheme}.*compiled kernels"):
        engine_of(quantize=scheme, cpu_kernels=False)


def test_8_bit_floats_are_refused_on_a_cpu():
    with pytest.raises(ModelLoadError, match="fp8, which CPUs have no products for"):
        engine_of(quantize="fp8")


def test_kernels_that_are_switched_off_are_not_used(monkeypatch):
    monkeypatch.setattr(linears.kernels, "load", lambda: pytest.fail("kernels were loaded"))
    assert not isinstance(engine_of(cpu_kernels=False)._runner, DecoderRunner)
