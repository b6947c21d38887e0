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
    [{}, {"block_size": 4, "max_batch_tokens": 7}, {"block_size": 4}],
    ids=["whole", "chunked", "small-blocks"],
)
def test_greedy_in_float32_equals_transformers(on_torch, run, settings):
    engine = on_torch.engine(device="cuda", **settings)
    requests = [on_torch.request(i) for i in range(len(on_torch.prompts))]
    expected = {str(i): tokens for i, tokens in enumerate(on_torch.expected)}
    assert run(engine, requests) == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_runs(on_torch, run, dtype):
    engine = on_torch.engine(device="cuda", dtype=dtype)
    sampling = [{}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 0.8, "top_k": 5}]
    requests = [on_torch.request(i, **changes) for i, changes in enumerate(sampling)]
    assert all(len(tokens) == 24 for tokens in run(engine, requests).values())
