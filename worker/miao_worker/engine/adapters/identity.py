"""An adapter's two files, and the name that their content gives it. Knows no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from miao_worker.engine.errors import AdapterError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def digest_of(folder: Path) -> str:
    """Names an adapter by its content. Raises AdapterError where files are missing."""
    config, weights = read(folder / CONFIG), folder / WEIGHTS
    digest = hashlib.sha256(hashlib.sha256(config).digest())
    try:
        with weights.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    except OSError as error:
        raise AdapterError(missing(folder)) from error
    return digest.hexdigest()[:32]


def read(file: Path) -> bytes:
    """A file of an adapter. Raises AdapterError where it is not there."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise AdapterError(missing(file.parent)) from error


def missing(folder: Path) -> str:
    """Said of an adapter whose files are not there or not whole."""
    return f"the adapter {folder.name} has no complete {CONFIG} and {WEIGHTS}"
