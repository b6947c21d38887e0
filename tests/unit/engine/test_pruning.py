"""Weights that are set to zero at load: which, how many, and what is said of it."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from miao_worker.bundled import bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.cuda_linears import PlainLinear, sparse_linear
from miao_worker.engine.engine import Engine
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.pruning import check_prune, prune_model

SMALL = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 2}  # fmt: skip


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SMALL)).bfloat16()


def test_a_share_takes_the_smallest_of_each_layer_and_leaves_the_head():
    model, whole = llama(), llama()
    assert prune_model(model, "0.3") == pytest.approx(0.3, abs=0.01)
    for (name, pruned), weight in zip(model.named_parameters(), whole.parameters(), strict=True):
        if "proj" not in name:
            assert torch.equal(pruned, weight)
            continue
        gone = pruned == 0
        assert int(gone.sum()) == int(0.3 * weight.numel())
        assert weight[gone].abs().max() <= weight[~gone].abs().min()
        assert torch.equal(pruned[~gone], weight[~gone])


def test_two_of_every_four_inputs():
    model, whole = llama(), llama()
    assert prune_model(model, "2:4") == 0.5
    pruned, weight = (m.model.layers[1].mlp.down_proj.weight for m in (model, whole))
    fours, before = pruned.view(-1, 4), weight.view(-1, 4).abs()
    assert ((fours == 0).sum(-1) == 2).all()
    kept = before.where(fours != 0, 0).sum(-1)
    assert torch.equal(kept, before.topk(2, dim=-1).values.sum(-1))


def test_layers_that_keep_their_inputs_first():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2))
    assert prune_model(model, "2:4") == 0.5
    weight = model.transformer.h[0].mlp.c_fc.weight.t()  # (out, in)
    assert ((weight.reshape(-1, 4) == 0).sum(-1) == 2).all()
    assert not (model.lm_head.weight == 0).any()


@pytest.mark.parametrize("prune", ["0", "1", "-0.5", "nan", "half", "2:5", ""])
def test_what_is_no_share_is_refused(prune):
    with pytest.raises(ModelLoadError, match=r"share between 0 and 1, or 2:4\.$"):
        check_prune(prune)


def test_the_start_says_what_it_brings(caplog):
    Engine(EngineConfig(str(bundled_model_path()), device="cpu", prune="2:4"))
    assert "pruned 2:4: 50.0% of the layers' weights are zero" in caplog.text
    assert "saves no time and no memory" in caplog.text


def test_a_shape_that_has_no_sparse_product_stays_dense():
    weight, x = torch.randn(7, 36), torch.randn(3, 36)
    layer = sparse_linear(weight, None)
    assert isinstance(layer, PlainLinear)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, weight))
