"""The small files beside a model's weights, from a folder or from the Hub's cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from miao_worker.engine.errors import ModelLoadError


class ModelFiles:
    """What lies beside a model's weights."""

    def __init__(self, name: str) -> None:
        self._name = name

    def path(self, file: str) -> Path | None:
        """Where a file is on this machine; None if the model has none of this name."""
        folder = Path(self._name)
        if folder.is_dir():
            found = folder / file
            return found if found.is_file() else None
        try:
            cached = cached_file(
                self._name,
                file,
                _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False,
            )
        except (OSError, ValueError):
            return None  # why the model is not to be had, loading it says
        return None if cached is None else Path(cached)

    def json(self, file: str) -> Any:
        """What a JSON file holds; None if there is none. Raises ModelLoadError if it is broken."""
        path = self.path(file)
        if path is None:
            return None
        try:
            return json.loads(path.read_text("utf-8"))
        except ValueError:
            raise ModelLoadError(f"{file} of {self._name} is no JSON; download it again.") from None

    def mapping(self, file: str) -> dict[str, Any]:
        """What a JSON file maps; empty if there is none."""
        found = self.json(file) or {}
        if not isinstance(found, dict):
            raise ModelLoadError(f"{file} of {self._name} maps nothing; download it again.")
        return found
