"""The adapters that an operator has laid out for a worker.

Paths come from the worker's own options and from nowhere else: neither callers
nor Redis can name a file.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from miao_worker.engine.adapters.identity import CONFIG, WEIGHTS, digest_of
from miao_worker.engine.errors import AdapterError

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
NAME_FORM = "1 to 64 of the characters A-Z a-z 0-9 . _ -, the first a letter or digit"

_State = tuple[tuple[int, int, int], ...]  # of the files: tells whether they have changed


@dataclass(frozen=True, slots=True)
class AdapterSource:
    """An adapter that is there: its name, its content's, and where it lies."""

    name: str
    adapter_id: str
    folder: Path


def is_adapter_name(name: str) -> bool:
    """Whether callers may write it behind a model's name."""
    return _NAME.fullmatch(name) is not None


class AdapterFolders:
    """Looks for adapters; reads again only what has changed."""

    def __init__(self, named: Mapping[str, Path], folder: Path | None) -> None:
        self._named = named
        self._folder = folder
        self._seen: dict[Path, tuple[_State, str]] = {}
        self._complained: set[Path] = set()

    def look(self) -> dict[str, AdapterSource]:
        """The adapters that are complete at this moment, by name."""
        found = {}
        for name, folder in self._candidates():
            adapter_id = self._identify(folder)
            if adapter_id is not None:
                found[name] = AdapterSource(name, adapter_id, folder)
        return found

    def _candidates(self) -> Iterator[tuple[str, Path]]:
        if self._folder is not None and self._folder.is_dir():
            for folder in sorted(self._folder.iterdir()):
                if is_adapter_name(folder.name):
                    yield folder.name, folder
                elif (folder / CONFIG).is_file():
                    self._complain(folder)
        yield from self._named.items()

    def _identify(self, folder: Path) -> str | None:
        """The content's name; None while there is no adapter, or not all of it."""
        try:
            state = _state(folder)
            known = self._seen.get(folder)
            if known is None or known[0] != state:
                self._seen[folder] = known = (state, digest_of(folder))
        except (OSError, AdapterError):
            self._seen.pop(folder, None)
            return None
        return known[1]

    def _complain(self, folder: Path) -> None:
        if folder not in self._complained:
            self._complained.add(folder)
            _log.error("the adapter folder %r is not served: a name is %s", folder.name, NAME_FORM)


def _state(folder: Path) -> _State:
    stats = [(folder / name).stat() for name in (CONFIG, WEIGHTS)]
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)
