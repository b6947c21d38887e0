"""Loads a Hugging Face causal language model, or says in one sentence why not.

Weights come from safetensors alone and a repository's own code is never run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from miao_worker.engine.attention import ATTENTION_NAME
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def resolve_device(name: str | None) -> torch.device:
    """The device asked for, or CUDA where there is one."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelLoadError(f"{name!r} is no device; use cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise ModelLoadError(f"The device {name} is not supported; use cpu, cuda or cuda:N.")
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise ModelLoadError(f"The device {name} is not here; use cpu or another GPU.")
    return device


def load_model(
    config: EngineConfig, device: torch.device, attention: str = ATTENTION_NAME
) -> PreTrainedModel:
    """The model in evaluation mode, its attention replaced by the engine's or by another one."""
    model_config = load_config(config.model)
    with plain_sentences(config.model), quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            config.model,
            config=model_config,
            dtype=dtype_of(config),
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=Path(config.model).is_dir(),
            output_loading_info=True,
        )
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelLoadError(
            f"The weights of {config.model} lack {len(missing)} tensors of the model, "
            f"{missing[0]} among them; download or export it again."
        )
    return model.to(device).eval()  # type: ignore[no-any-return]


def load_config(name: str) -> PretrainedConfig:
    """The model's configuration, once it is known to be of a kind that can be served."""
    _check_path(name)
    with plain_sentences(name), quiet():
        config: PretrainedConfig = AutoConfig.from_pretrained(
            name, trust_remote_code=False, local_files_only=Path(name).is_dir()
        )
    if config.is_encoder_decoder:
        raise ModelLoadError(
            f"{name} is an encoder-decoder model ({config.model_type}); "
            "choose a decoder-only causal language model."
        )
    return config


def _check_path(name: str) -> None:
    """Refuse what is meant as a folder and is none, before the hub is asked for it."""
    path = Path(name)
    if name and path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelLoadError(
                f"The folder {name} holds no config.json; give the folder of a saved model."
            )
        return
    looks_like_path = name.startswith(("/", ".", "~")) or name.count("/") > 1 or path.exists()
    if looks_like_path or not name:
        raise ModelLoadError(
            f"There is no model folder at {name!r}; give an existing folder or a Hub name."
        )


def dtype_of(config: EngineConfig) -> torch.dtype | str:
    """What to load the weights as. Raises ModelLoadError for a setting that is no dtype."""
    name = config.dtype
    if config.quantize is not None:  # rounded from 16 bits, whatever the checkpoint has
        if name not in ("auto", "bfloat16"):
            raise ModelLoadError(
                f"dtype is {name}; quantize {config.quantize} starts from bfloat16 alone."
            )
        return torch.bfloat16
    if name == "auto":
        return "auto"
    if name not in _DTYPES:
        raise ModelLoadError(f"{name!r} is no dtype; use auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and advice, which belong to a terminal of its own."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


@contextmanager
def plain_sentences(name: str) -> Iterator[None]:
    """Turn what transformers raises into ModelLoadError."""
    try:
        yield
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(_explain(name, error)) from error


def _explain(name: str, error: Exception) -> str:
    causes = list(_chain(error))
    text = " ".join(str(cause) for cause in causes)
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return f"{name} is gated; ask for access on the Hub and set HF_TOKEN."
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return f"The Hub has no model {name}, or HF_TOKEN does not see it; check the name."
    if any(isinstance(cause, SafetensorError) for cause in causes):
        return f"The weights of {name} are damaged; download or export it again."
    if "trust_remote_code" in text or "custom code" in text:
        return f"{name} needs code from its own repository, which is never run; choose another."
    if "safetensors" in text:
        return f"{name} has no complete safetensors weights; export it with save_pretrained."
    return _explain_rest(name, error, causes, text)


def _explain_rest(name: str, error: Exception, causes: list[BaseException], text: str) -> str:
    if "does not recognize this architecture" in text or "Unrecognized" in text:
        return (
            f"The architecture of {name} is no causal language model that transformers "
            f"{transformers.__version__} knows; choose another model or upgrade transformers."
        )
    if any(isinstance(cause, HfHubHTTPError | ConnectionError) for cause in causes) or (
        isinstance(error, OSError) and not os.path.isdir(name)  # noqa: PTH112
    ):
        return (
            f"{name} is not in the local cache and the Hub cannot be reached or refuses it; "
            "check the name and the connection, or give a folder."
        )
    first_line = next(iter(str(error).splitlines()), type(error).__name__)
    return f"{name} cannot be loaded ({first_line.rstrip('. ')}); check its files."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
