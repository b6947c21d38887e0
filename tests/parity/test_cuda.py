"""The same on a GPU, where there is one."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(autouse=True)
def exact_products():
    """Without TF32, which rounds the factors of a product to 10 bits."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"block_size": 4, "max_batch_tokens": 7},
        {"block_size": 4},
        {"overlap": False},
        {"cuda_graphs": False},
        {"attention": "torch"},
        {"attention": "torch", "overlap": False, "max_batch_tokens": 7},
        {"max_sequences": 3},
    ],
    ids=["whole", "chunked", "small-blocks", "no-overlap", "no-graphs", "torch", "plain", "few"],
)
def test_greedy_in_float32_equals_transformers(on_torch, run, settings):
    engine = on_torch.engine(device="cuda", **settings)
    requests = [on_torch.request(i) for i in range(len(on_torch.prompts))]
    expected = {str(i): tokens for i, tokens in enumerate(on_torch.expected)}
    assert run(engine, requests) == expected


def test_triton_and_graphs_are_what_a_model_runs_on(on_torch):
    runner = on_torch.engine(device="cuda")._runner
    assert runner._on_triton
    assert runner._graphs is not None, "it could not be recorded"


def test_sampled_requests_draw_the_same_with_and_without_graphs_and_overlap(on_torch, run):
    """In float32, whose rounding is far below what moves a draw."""
    changes = [
        {"temperature": 1.0, "num_logprobs": 2},
        {"temperature": 0.7, "top_p": 0.8},
        {"temperature": 1.3, "top_k": 9, "min_p": 0.02},
        {"temperature": 0.9, "frequency_penalty": 0.5},
        {},
    ]
    requests = [on_torch.request(i, **sampling) for i, sampling in enumerate(changes)]
    plain = on_torch.engine(device="cuda", overlap=False, cuda_graphs=False, attention="torch")
    assert run(on_torch.engine(device="cuda"), requests) == run(plain, requests)


def test_speculation_on_recorded_graphs_changes_nothing(on_torch, run):
    engine = on_torch.engine(device="cuda", speculation="ngram", free=True)
    requests = [on_torch.request(i) for i in range(len(on_torch.prompts))]
    expected = {str(i): tokens for i, tokens in enumerate(on_torch.expected)}
    assert run(engine, requests) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(on_torch, run, dtype):
    engine = on_torch.engine(device="cuda", dtype=dtype)
    sampling = [{}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 0.8, "top_k": 5}]
    requests = [on_torch.request(i, **changes) for i, changes in enumerate(sampling)]
    assert all(len(tokens) == 24 for tokens in run(engine, requests).values())
