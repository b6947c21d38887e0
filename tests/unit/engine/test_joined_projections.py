"""Projections that are computed together say what they said apart."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from miao_worker.engine.cuda.joined_projections import _Joined, join_projections

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}


def models() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    return [
        LlamaForCausalLM(LlamaConfig(**SIZES)),
        Qwen2ForCausalLM(Qwen2Config(**SIZES)),  # with biases at queries, keys and values
        Qwen3ForCausalLM(Qwen3Config(**SIZES)),  # with norms behind them
        GemmaForCausalLM(GemmaConfig(**SIZES)),
    ]


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
@torch.inference_mode()
def test_a_models_logits_stay(model: PreTrainedModel) -> None:
    ids = torch.randint(0, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    expected = model.eval()(ids).logits
    joined = deepcopy(model)
    assert join_projections(joined) == 2 * SIZES["num_hidden_layers"]
    torch.testing.assert_close(joined(ids).logits, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(joined(ids).logits, expected, rtol=1e-5, atol=1e-5)
    groups = [each for each in joined.modules() if isinstance(each, _Joined)]
    assert all(group._input is None and group._parts == () for group in groups)  # nothing is held
    count = sum(x.numel() for x in model.parameters())
    assert sum(x.numel() for x in joined.parameters()) == count


class Owner(nn.Module):
    """Three projections, taken in any order."""

    def __init__(self, *, widths: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.q_proj = nn.Linear(8, widths[0], bias=False)
        self.k_proj = nn.Linear(8, widths[1])
        self.v_proj = nn.Linear(8, widths[2], bias=False).to(dtype)


@torch.inference_mode()
def test_any_order_and_other_inputs_between_are_right() -> None:
    owner = Owner(widths=(6, 3, 3))
    apart = deepcopy(owner)
    assert join_projections(owner) == 1
    x, y = torch.randn(4, 8), torch.randn(4, 8)
    for name, each in (("v", x), ("k", x), ("q", x), ("q", y), ("k", x), ("k", y), ("v", y)):
        got, expected = getattr(owner, f"{name}_proj")(each), getattr(apart, f"{name}_proj")(each)
        torch.testing.assert_close(got, expected)


def test_what_does_not_fit_stays_as_it_is() -> None:
    owner = Owner(widths=(6, 3, 3), dtype=torch.bfloat16)
    assert join_projections(owner) == 0
    assert type(owner.q_proj) is nn.Linear
