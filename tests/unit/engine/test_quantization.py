"""Rounded models end to end: the bundled model under each scheme that a CPU has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cpu import kernels, linears
from miao_worker.engine.cpu.runner import DecoderRunner
from miao_worker.engine.cpu.weights import WeightLinear
from miao_worker.engine.engine import Engine
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.kv_pool import KVPool, LayerShape
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


def paths():
    """A runner on the kernels, and one on torch's operations."""
    return [pytest.param(True, id="kernels", marks=needs_kernels), pytest.param(False, id="torch")]


@pytest.mark.parametrize("cpu_kernels", paths())
def test_a_rounded_cache_gives_the_same_alone_in_a_batch_and_in_chunks(cpu_kernels):
    settings = {"kv_cache_dtype": "int8", "dtype": "float32", "cpu_kernels": cpu_kernels}
    together = run(engine_of(**settings), 0, 1, 3)
    in_chunks = engine_of(**settings, max_batch_tokens=7)
    for i in together:
        assert run(in_chunks, i) == {i: together[i]}


@pytest.mark.parametrize("cpu_kernels", paths())
def test_a_rounded_cache_shares_prefixes_and_survives_preemption(cpu_kernels):
    settings = {"kv_cache_dtype": "int8", "dtype": "float32", "cpu_kernels": cpu_kernels}
    roomy = engine_of(**settings, prefix_cache=False)
    expected = run(roomy, 2, 3, 4, 5, num_tokens=24)
    block_bytes = roomy.block_size * 5 * 2 * (2 * 64 + 8)
    cramped = engine_of(**settings, cache_bytes=14 * block_bytes, max_model_length=128)
    assert cramped.num_blocks == 14
    assert run(cramped, 2, 3, 4, 5, num_tokens=24) == expected
    assert cramped._scheduler.num_preemptions
    assert run(cramped, 5, num_tokens=24) == {5: expected[5]}


@pytest.mark.parametrize("cpu_kernels", paths())
def test_a_rounded_cache_hardly_changes_what_is_likely(cpu_kernels):
    request = SequenceRequest(
        "0", tuple(range(300, 380)), SamplingParams(max_tokens=1, seed=0, num_logprobs=5)
    )
    tops = []
    for kind in ("auto", "int8"):
        engine = engine_of(kv_cache_dtype=kind, dtype="float32", cpu_kernels=cpu_kernels)
        engine.add(request)
        tops.append(dict(engine.step().outputs[0].logprobs[0].top))
    common = tops[0].keys() & tops[1].keys()
    assert len(common) >= 3
    gaps = [abs(tops[0][t] - tops[1][t]) for t in common]
    assert 0 < max(gaps) < 0.2


def test_a_rounded_cache_holds_more_tokens():
    blocks = [
        engine_of(kv_cache_dtype=kind, cache_bytes=1 << 24, dtype="bfloat16", cpu_kernels=False)
        for kind in ("auto", "int8")
    ]
    bytes_per_head = [2 * engine._runner.dtype.itemsize * 64 for engine in blocks]
    assert blocks[1].num_blocks / blocks[0].num_blocks == pytest.approx(
        bytes_per_head[0] / (2 * 64 + 8), rel=0.01
    )


def test_what_is_not_finite_in_a_rounded_pool_stays_so_until_it_is_erased():
    pool = KVPool({0: LayerShape(1, 4, 4)}, 2, 16, torch.float32, torch.device("cpu"), True)
    lines = torch.tensor([[[1.0, torch.inf, 0, 0], [1, 2, 3, 4]]])
    pool.write(0, torch.tensor([0, 1]), lines, lines)
    keys, values = pool.gather(0, torch.tensor([0]))
    assert keys[0, 0].isnan().all()
    torch.testing.assert_close(values[0, 1], lines[0, 1], rtol=0.01, atol=0.02)
    pool.erase([0])
    assert not any(x.any() for x in pool.gather(0, torch.tensor([0])))


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


@pytest.mark.parametrize("scheme", WEIGHT_SCHEMES)
@pytest.mark.parametrize("has_products", [True, False])
def test_a_scheme_that_pays_for_few_sequences_only_says_so_at_start(scheme, has_products, caplog):
    functions = SimpleNamespace(has_products=has_products, has_narrow_weights=has_products)
    linears._quantized_scheme(functions, scheme)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == has_products
    assert all(scheme in line and "one or two sequences" in line for line in said)
