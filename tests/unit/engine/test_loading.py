"""What cannot be served fails at load with one sentence that says what to do."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BloomConfig,
    GptOssConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.errors import ModelLoadError

SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def saved_llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    AutoModelForCausalLM.from_config(LlamaConfig(**SMALL)).save_pretrained(folder)
    return folder


@pytest.fixture
def llama(saved_llama, tmp_path):
    """A copy of the model's folder, to be broken."""
    return shutil.copytree(saved_llama, tmp_path / "llama")


def refusal(model, **settings):
    with pytest.raises(ModelLoadError) as caught:
        Engine(EngineConfig(str(model), device="cpu", **settings))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def save(config, folder):
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def rewrite_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_sound_model_loads(llama):
    engine = Engine(EngineConfig(str(llama), device="cpu"))
    assert (engine.vocab_size, engine.max_model_length) == (64, 64)
    assert engine.token_capacity >= engine.max_model_length


def test_a_folder_that_is_not_there():
    assert "no model folder" in refusal("/nowhere/model")
    assert "no model folder" in refusal("./model")
    assert "no model folder" in refusal("")


def test_a_folder_without_a_model(tmp_path):
    assert "no config.json" in refusal(tmp_path)


def test_an_unreachable_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.is_offline_mode", lambda: True, raising=False)
    assert "cannot be reached" in refusal("nobody/no-such-model-for-miao")


def test_a_broken_config(llama):
    (llama / "config.json").write_text("{")
    assert "check its files" in refusal(llama)


def test_an_unknown_architecture(llama):
    rewrite_config(llama, model_type="hal9000", architectures=["Hal"])
    assert "architecture" in refusal(llama)


def test_code_of_its_own_is_never_run(llama):
    (llama / "evil.py").write_text("raise SystemExit('ran')")
    rewrite_config(
        llama,
        model_type="own",
        auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"},
    )
    assert "never run" in refusal(llama)


def test_weights_that_are_missing(llama):
    (llama / "model.safetensors").unlink()
    assert "safetensors" in refusal(llama)


def test_pickled_weights_are_never_opened(llama):
    (llama / "model.safetensors").unlink()
    (llama / "pytorch_model.bin").write_bytes(b"\x80\x04never read.")
    assert "safetensors" in refusal(llama)


def test_weights_that_are_damaged(llama):
    (llama / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00nonsense")
    assert "damaged" in refusal(llama)


def test_weights_that_lack_tensors(llama):
    rewrite_config(llama, num_hidden_layers=3)
    assert "lack" in refusal(llama)


def test_an_encoder_decoder(tmp_path):
    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    assert "encoder-decoder" in refusal(tmp_path)


def test_an_encoder(tmp_path):
    config = BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    assert "both directions" in refusal(save(config, tmp_path))


def test_a_state_space_model(tmp_path):
    config = MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
    assert "layers of linear_attention" in refusal(save(config, tmp_path))


def test_a_model_that_ignores_the_attention_interface(tmp_path):
    config = BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2)
    assert "choose another model" in refusal(save(config, tmp_path))


def test_attention_sinks(tmp_path):
    config = GptOssConfig(**SMALL, head_dim=8, num_local_experts=2, num_experts_per_tok=1)
    assert "s_aux" in refusal(save(config, tmp_path))


def test_chunked_attention(tmp_path):
    config = Llama4TextConfig(
        **SMALL, head_dim=8, num_local_experts=2, intermediate_size_mlp=32, attention_chunk_size=8
    )
    assert "chunked" in refusal(save(config, tmp_path))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dtype": "int3"}, "no dtype"),
        ({"max_model_length": 65}, "64 positions"),
        ({"cache_bytes": 10}, "holds no block"),
        ({"max_batch_tokens": 0}, "max_batch_tokens is 0"),
        ({"num_threads": -1}, "num_threads is -1"),
    ],
)
def test_settings_that_do_not_fit(llama, settings, words):
    assert words in refusal(llama, **settings)


def test_a_pool_smaller_than_the_wanted_length(llama):
    block_bytes = 2 * 2 * 8 * 16 * 4
    assert "holds 32 tokens" in refusal(llama, cache_bytes=2 * block_bytes, max_model_length=64)


def test_a_pool_smaller_than_the_context_shortens_it(llama):
    block_bytes = 2 * 2 * 8 * 16 * 4
    engine = Engine(EngineConfig(str(llama), device="cpu", cache_bytes=2 * block_bytes))
    assert (engine.max_model_length, engine.token_capacity) == (32, 32)


@pytest.mark.parametrize("device", ["tpu?", "meta", "cuda:99"])
def test_a_device_that_is_not_there(llama, device):
    with pytest.raises(ModelLoadError):
        Engine(EngineConfig(str(llama), device=device))


def test_rotary_scaling_that_depends_on_the_batch_keeps_the_original_length(tmp_path):
    config = LlamaConfig(
        **SMALL,
        rope_parameters={
            "rope_type": "dynamic",
            "factor": 2.0,
            "rope_theta": 10_000.0,
            "original_max_position_embeddings": 32,
        },
    )
    engine = Engine(EngineConfig(str(save(config, tmp_path)), device="cpu"))
    assert engine.max_model_length == 32


@pytest.mark.parametrize("dtype", ["auto", "bfloat16", "float16", "float32"])
def test_the_dtype_asked_for_runs(llama, dtype):
    model = AutoModelForCausalLM.from_pretrained(llama).to(torch.bfloat16)
    model.save_pretrained(llama)
    engine = Engine(EngineConfig(str(llama), device="cpu", dtype=dtype))
    assert engine.dtype in ("bfloat16", "float16", "float32")
