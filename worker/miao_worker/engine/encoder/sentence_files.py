"""What the files of sentence-transformers say: modules, pooling, length, prompts.

    modules.json                      which modules, in order, each with its folder
    1_Pooling/config.json             which tokens' vectors make the text's
    2_Dense/config.json, *.safetensors   a layer on top
    sentence_bert_config.json         the longest input, in tokens
    config_sentence_transformers.json prompts to put before a text

The modules' classes are compared by their names, never imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miao_worker.engine.encoder.model_files import ModelFiles
from miao_worker.engine.encoder.pooling import Pooling
from miao_worker.engine.errors import ModelLoadError

_FLAGS = {
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_max_tokens": Pooling.MAX,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": Pooling.MEAN_SQRT,
    "pooling_mode_weightedmean_tokens": Pooling.WEIGHTED_MEAN,
    "pooling_mode_lasttoken": Pooling.LAST,
}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")


@dataclass(frozen=True, slots=True)
class DenseFiles:
    """A layer on the pooled vector: its weights, and its activation by the name in torch."""

    weights: Path
    activation: str


@dataclass(frozen=True, slots=True)
class SentenceRecipe:
    """How a text's vector is made of its tokens' ones, and what may come before the text.

    max_length: tokens of one input; None where the files do not say.
    """

    poolings: tuple[Pooling, ...] = (Pooling.MEAN,)
    dense: tuple[DenseFiles, ...] = ()
    normalize: bool = False
    max_length: int | None = None
    lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str = ""


def read_recipe(name: str) -> SentenceRecipe:
    """The recipe in a model's files; the mean of the tokens where it has none.

    Raises ModelLoadError where they ask for something that is not served.
    """
    files = ModelFiles(name)
    modules = files.json("modules.json")
    if modules is None:
        return SentenceRecipe()
    kinds = [(str(each["type"]).rpartition(".")[2], str(each.get("path", ""))) for each in modules]
    _check_order(name, [kind for kind, _ in kinds])
    pooling = next((path for kind, path in kinds if kind == "Pooling"), None)
    lengths = files.mapping("sentence_bert_config.json")
    prompts = files.mapping("config_sentence_transformers.json")
    return SentenceRecipe(
        poolings=(Pooling.MEAN,) if pooling is None else _poolings(name, files, pooling),
        dense=tuple(_dense(name, files, path) for kind, path in kinds if kind == "Dense"),
        normalize=any(kind == "Normalize" for kind, _ in kinds),
        max_length=lengths.get("max_seq_length"),
        lower_case=bool(lengths.get("do_lower_case")),
        prompts={str(k): str(v) for k, v in (prompts.get("prompts") or {}).items()},
        default_prompt_name=prompts.get("default_prompt_name") or "",
    )


def transformer_folder(name: str) -> str:
    """Where the transformer itself lies: mostly the model's own folder."""
    modules = ModelFiles(name).json("modules.json") or []
    for each in modules:
        if str(each["type"]).rpartition(".")[2] == "Transformer" and each.get("path"):
            folder = Path(name) / str(each["path"])
            if folder.is_dir():
                return str(folder)
            raise ModelLoadError(
                f"{name} keeps its transformer in {each['path']}; download it and give its folder."
            )
    return name


def _check_order(name: str, kinds: list[str]) -> None:
    """The transformer, then one pooling, then layers, and the scaling at the end."""
    ranks = {"Transformer": 0, "Pooling": 1, "Dense": 2, "Dropout": 2, "Normalize": 3}
    unknown = [kind for kind in kinds if kind not in ranks]
    if unknown:
        raise ModelLoadError(
            f"{name} has the module {unknown[0]}, which is not supported; choose a model of "
            f"{', '.join(ranks)}."
        )
    order = [ranks[kind] for kind in kinds]
    if order != sorted(order) or kinds[:1] != ["Transformer"] or kinds.count("Pooling") > 1:
        raise ModelLoadError(
            f"{name} has its modules in an order that is not supported: {', '.join(kinds)}."
        )


def _poolings(name: str, files: ModelFiles, path: str) -> tuple[Pooling, ...]:
    config = files.mapping(f"{path}/config.json")
    if config.get("include_prompt") is False:
        raise ModelLoadError(f"{name} pools without its prompt, which is not supported.")
    mode: Any = config.get("pooling_mode")
    if mode:
        names = [mode] if isinstance(mode, str) else list(mode)
        unknown = [each for each in names if each not in list(Pooling)]
        found = {Pooling(each) for each in names if each not in unknown}
    else:
        asked = [key for key in config if key.startswith("pooling_mode_") and config[key]]
        unknown = [key for key in asked if key not in _FLAGS]
        found = {_FLAGS[key] for key in asked if key in _FLAGS}
    if unknown or not found:
        what = unknown[0] if unknown else "nothing"
        raise ModelLoadError(f"{name} pools by {what}, which is not supported.")
    return tuple(each for each in Pooling if each in found)


def _dense(name: str, files: ModelFiles, path: str) -> DenseFiles:
    config = files.mapping(f"{path}/config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ModelLoadError(f"{name} has a layer with {activation}, which is not supported.")
    weights = files.path(f"{path}/model.safetensors")
    if weights is None:
        raise ModelLoadError(
            f"The layer {path} of {name} has no safetensors weights; export it with "
            "sentence-transformers of version 3 or later."
        )
    return DenseFiles(weights, activation)
