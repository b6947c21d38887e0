"""What a model is for, and how its vectors are made, read from its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.pooling import Pooling
from miao_worker.engine.encoder.sentence_files import SentenceRecipe, read_recipe
from miao_worker.engine.encoder.tasks import encoder_task
from miao_worker.engine.encoder.types import EncoderTask
from miao_worker.engine.errors import ModelLoadError


def write(folder: Path, **files: Any) -> str:
    """Files by their names, where __ stands for a slash and each is JSON."""
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return str(folder)


def modules(*kinds: str) -> list[dict[str, str]]:
    package = "sentence_transformers.models"
    return [
        {"type": f"{package}.{k}", "path": f"{i}_{k}" if i else ""} for i, k in enumerate(kinds)
    ]


def config(architecture: str | None, model_type: str = "bert", **changes: Any) -> dict[str, Any]:
    named = {"architectures": [architecture]} if architecture else {}
    return {"model_type": model_type, **named, **changes}


@pytest.mark.parametrize(
    ("architecture", "model_type", "expected"),
    [
        ("BertForSequenceClassification", "bert", EncoderTask.CLASSIFY),
        ("XLMRobertaForTokenClassification", "xlm-roberta", EncoderTask.CLASSIFY_TOKENS),
        ("BertModel", "bert", EncoderTask.EMBED),
        ("DistilBertForMaskedLM", "distilbert", EncoderTask.EMBED),
        (None, "roberta", EncoderTask.EMBED),
        ("LlamaForCausalLM", "llama", None),
        ("GPT2LMHeadModel", "gpt2", None),
        ("GPT2Model", "gpt2", None),
    ],
)
def test_the_architecture_says_what_a_model_is_for(
    tmp_path: Path, architecture: str | None, model_type: str, expected: EncoderTask | None
) -> None:
    folder = write(tmp_path, config=config(architecture, model_type))
    assert encoder_task(EngineConfig(folder)) is expected


def test_the_option_overrides_the_files(tmp_path: Path) -> None:
    folder = write(
        tmp_path, config=config("Qwen3ForCausalLM", "qwen3"), modules=modules("Transformer")
    )
    assert encoder_task(EngineConfig(folder)) is EncoderTask.EMBED
    assert encoder_task(EngineConfig(folder, task="generate")) is None


@pytest.mark.parametrize(
    ("task", "labels", "architecture"),
    [
        ("rerank", 3, "BertForSequenceClassification"),
        ("rerank", 1, "BertForTokenClassification"),
        ("classify", 2, "BertModel"),
        ("rerank", 1, "BertForMaskedLM"),
    ],
)
def test_a_model_that_was_not_trained_for_a_task_is_refused(
    tmp_path: Path, task: str, labels: int, architecture: str
) -> None:
    names = {str(i): f"L{i}" for i in range(labels)}
    folder = write(tmp_path, config=config(architecture, id2label=names))
    with pytest.raises(ModelLoadError, match=f"cannot {task}: it is {architecture} with {labels}"):
        encoder_task(EngineConfig(folder, task=task))


def test_a_recipe_is_read_from_all_its_files(tmp_path: Path) -> None:
    pooling = {"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}
    folder = write(
        tmp_path,
        modules=modules("Transformer", "Pooling", "Normalize"),
        **{"1_Pooling__config": pooling | {"pooling_mode_mean_tokens": False}},
        sentence_bert_config={"max_seq_length": 256, "do_lower_case": True},
        config_sentence_transformers={"prompts": {"query": "q: "}, "default_prompt_name": "query"},
    )
    assert read_recipe(folder) == SentenceRecipe(
        poolings=(Pooling.CLS, Pooling.MAX),
        normalize=True,
        max_length=256,
        lower_case=True,
        prompts={"query": "q: "},
        default_prompt_name="query",
    )


def test_without_files_the_mean_is_taken(tmp_path: Path) -> None:
    assert read_recipe(str(tmp_path)) == SentenceRecipe(poolings=(Pooling.MEAN,))


@pytest.mark.parametrize(
    ("kinds", "pooling", "words"),
    [
        (["Transformer", "Pooling", "CNN"], {}, "module CNN"),
        (["Transformer", "Normalize", "Pooling"], {}, "order that is not supported"),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_strange": True},
            "pools by pooling_mode_strange",
        ),
        (["Transformer", "Pooling"], {"pooling_mode": "odd"}, "pools by odd"),
        (["Transformer", "Pooling"], {"include_prompt": False}, "without its prompt"),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "mean"}, "no safetensors weights"),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(
    tmp_path: Path, kinds: list[str], pooling: dict[str, Any], words: str
) -> None:
    folder = write(tmp_path, modules=modules(*kinds), **{"1_Pooling__config": pooling})
    with pytest.raises(ModelLoadError, match=words):
        read_recipe(folder)
