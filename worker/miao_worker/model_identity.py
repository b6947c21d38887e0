"""What tells two models of one name apart: their vocabularies and their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from transformers.utils.hub import cached_file

_DIGEST_CHARS = 16
_NUM_SAMPLES = 64  # places of a file that are read
_SAMPLE_BYTES = 4096
_INDEX = "model.safetensors.index.json"


def vocabulary_digest(tokenizer_json: str, vocab_size: int) -> str:
    """Equal where token ids mean the same, and as many of them."""
    text = f"{vocab_size}\n{tokenizer_json}"
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]


def weights_digest(model: str) -> str:
    """Equal for copies of the same weights, on whichever machine; empty where there are no files.

    The files' sizes, their headers and samples are read, not all their bytes: what
    another training run leaves as it was in all of the samples, is the same model.
    """
    folder = _folder(model)
    if folder is None:
        return ""
    digest = hashlib.sha256()
    for file in _weight_files(folder):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        for sample in _samples(file):
            digest.update(sample)
    return digest.hexdigest()[:_DIGEST_CHARS]


def _folder(model: str) -> Path | None:
    """Where a folder, or the local copy of a hub's model, has its files."""
    if Path(model).is_dir():
        return Path(model)
    config = cached_file(model, "config.json", local_files_only=True)
    return None if config is None else Path(config).parent


def _weight_files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        parts = json.loads(index.read_text("utf-8"))["weight_map"].values()
        return [folder / Path(name).name for name in sorted(set(parts))]
    return sorted(folder.glob("model.safetensors"))


def _samples(file: Path) -> Iterator[bytes]:
    """The beginning, which names every tensor with its shape, and places all over the rest."""
    size = file.stat().st_size
    step = max(_SAMPLE_BYTES, size // _NUM_SAMPLES)
    with file.open("rb") as stream:
        for place in range(0, size, step):
            stream.seek(place)
            yield stream.read(_SAMPLE_BYTES)
