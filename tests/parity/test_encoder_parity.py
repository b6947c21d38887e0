"""Encoders give what transformers gives, each architecture and task, in any batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    Qwen3Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.engine import EncoderEngine, load_engine
from miao_worker.engine.encoder.tasks import encoder_task
from miao_worker.engine.encoder.types import (
    EncoderInput,
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
)
from miao_worker.engine.types import FinishReason

_COMMON: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 66,
    "initializer_range": 0.3,
    "pad_token_id": 1,
    "id2label": {0: "low", 1: "middle", 2: "high"},
}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**_COMMON),
    "roberta": lambda: RobertaConfig(**_COMMON),
    "xlm-roberta": lambda: XLMRobertaConfig(**_COMMON),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=97,
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=2,
        max_position_embeddings=66,
        initializer_range=0.3,
        pad_token_id=1,
        id2label=_COMMON["id2label"],
    ),
    "electra": lambda: ElectraConfig(**_COMMON, embedding_size=32),
    "mpnet": lambda: MPNetConfig(**_COMMON),
    "modernbert": lambda: ModernBertConfig(
        **_COMMON, local_attention=8, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
    ),
}
CLASSES = {
    EncoderTask.EMBED: AutoModel,
    EncoderTask.CLASSIFY: AutoModelForSequenceClassification,
    EncoderTask.CLASSIFY_TOKENS: AutoModelForTokenClassification,
}
LENGTHS = (1, 7, 64, 7, 33, 12, 2, 40)


def save(folder: Path, config: PretrainedConfig, task: EncoderTask) -> Any:
    """A random model in a folder; the model."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    model = CLASSES[task].from_config(config).eval()
    model.save_pretrained(folder)
    return model


def load(folder: Path, **changes: Any) -> EncoderEngine:
    config = EngineConfig(str(folder), device="cpu", dtype="float32", **changes)
    task = encoder_task(config)
    assert task is not None
    return load_engine(config, task)[0]


def draw(seed: int = 0) -> tuple[EncoderInput, ...]:
    rng = random.Random(seed)
    return tuple(EncoderInput(tuple(rng.choices(range(4, 97), k=n))) for n in LENGTHS)


def run(engine: EncoderEngine, *requests: EncodingRequest) -> dict[str, EncodingOutput]:
    for request in requests:
        engine.add(request)
    outputs: dict[str, EncodingOutput] = {}
    while engine.has_unfinished:
        for output in engine.step().outputs:
            assert isinstance(output, EncodingOutput)
            assert output.finish_reason is FinishReason.STOP, output.error
            assert output.sequence_id not in outputs
            outputs[output.sequence_id] = output
    return outputs


def rows(output: EncodingOutput) -> list[Tensor]:
    return [torch.frombuffer(bytearray(row), dtype=torch.float32) for row in output.rows]


@torch.inference_mode()
def alone(model: Any, each: EncoderInput) -> Any:
    """What the model says of one input by itself, without padding."""
    ids = torch.tensor([each.token_ids])
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if each.type_ids:
        arguments["token_type_ids"] = torch.tensor([each.type_ids])
    return model(**arguments)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("task", EncoderTask)
def test_every_architecture_does_every_task_as_transformers_does(
    name: str, task: EncoderTask, tmp_path: Path
) -> None:
    if (name, task) == ("modernbert", EncoderTask.CLASSIFY_TOKENS):
        pytest.skip("as for classify")
    model = save(tmp_path, CONFIGS[name](), task)
    engine = load(tmp_path, max_batch_tokens=128)
    inputs = draw()
    output = run(engine, EncodingRequest("a", task, inputs, raw_scores=True))["a"]
    for each, row in zip(inputs, rows(output), strict=True):
        said = alone(model, each)
        if task is EncoderTask.EMBED:
            close(row, said.last_hidden_state[0].mean(0))
        elif task is EncoderTask.CLASSIFY:
            close(row, said.logits[0])
        else:
            best, labels = said.logits[0].max(-1)
            assert row[0::2].long().tolist() == labels.tolist()
            close(row[1::2], best)


def test_requests_of_different_wishes_share_batches(tmp_path: Path) -> None:
    model = save(tmp_path, CONFIGS["bert"](), EncoderTask.EMBED)
    engine = load(tmp_path)
    first, second, third = draw(1), draw(2), draw(3)
    ask = EncodingRequest
    outputs = run(
        engine,
        ask("plain", EncoderTask.EMBED, first),
        ask("scaled", EncoderTask.EMBED, second, normalize=True),
        ask("short", EncoderTask.EMBED, third, normalize=True, dimensions=5),
    )
    for key, inputs, size in (("plain", first, 32), ("scaled", second, 32), ("short", third, 5)):
        for each, row in zip(inputs, rows(outputs[key]), strict=True):
            vector = alone(model, each).last_hidden_state[0].mean(0)[:size]
            close(row, vector if key == "plain" else vector / vector.norm())


def test_pairs_are_told_apart_by_their_types(tmp_path: Path) -> None:
    model = save(tmp_path, BertConfig(**{**_COMMON, "id2label": {0: "fit"}}), EncoderTask.CLASSIFY)
    engine = load(tmp_path)
    inputs = tuple(
        EncoderInput(each.token_ids, (0,) * (n // 2) + (1,) * (n - n // 2))
        for each, n in zip(draw(), LENGTHS, strict=True)
    )
    output = run(engine, EncodingRequest("a", EncoderTask.CLASSIFY, inputs))["a"]
    for each, row in zip(inputs, rows(output), strict=True):
        close(row, alone(model, each).logits[0].sigmoid())
        untold = EncoderInput(each.token_ids)
        assert not torch.allclose(row, alone(model, untold).logits[0].sigmoid(), atol=1e-6)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("single_label_classification", lambda logits: logits.softmax(-1)),
        ("multi_label_classification", lambda logits: logits.sigmoid()),
        ("regression", lambda logits: logits),
    ],
)
def test_scores_follow_the_models_problem(
    problem: str, expected: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    config = BertConfig(**_COMMON, problem_type=problem)
    model = save(tmp_path, config, EncoderTask.CLASSIFY)
    output = run(load(tmp_path), EncodingRequest("a", EncoderTask.CLASSIFY, draw()))["a"]
    for each, row in zip(draw(), rows(output), strict=True):
        close(row, expected(alone(model, each).logits[0]))


def test_a_causal_model_embeds_by_its_last_token(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_lasttoken": true}')
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    entries = [f'{{"type": "sentence_transformers.models.{k}", "path": "{p}"}}' for k, p in kinds]
    (tmp_path / "modules.json").write_text(f"[{', '.join(entries)}]")
    config = Qwen3Config(
        **{**_COMMON, "num_key_value_heads": 1}, head_dim=16, architectures=["Qwen3ForCausalLM"]
    )
    model = save(tmp_path, config, EncoderTask.EMBED)
    output = run(load(tmp_path), EncodingRequest("a", EncoderTask.EMBED, draw()))["a"]
    for each, row in zip(draw(), rows(output), strict=True):
        last = alone(model, each).last_hidden_state[0, -1]
        close(row, last / last.norm())
