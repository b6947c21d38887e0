"""The adapters that an engine knows, and which of them are in memory."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path

from miao_worker.engine.adapters.files import AdapterWeights
from miao_worker.engine.errors import AdapterError

_log = logging.getLogger(__name__)

Load = Callable[[Path, str], AdapterWeights]


class AdapterStore:
    """Loads an adapter when a sequence that needs it is about to run; never more than so many.

    Adapters that running sequences use stay; of the others the least recently used
    one makes room. A sequence for which there is no room waits.
    """

    def __init__(self, max_adapters: int, check: Callable[[Path], None], load: Load) -> None:
        """`check` and `load` raise AdapterError for what cannot be served."""
        self._max_adapters = max_adapters
        self._check = check
        self._load = load
        self._folders: dict[str, Path] = {}  # by adapter id
        self._resident: OrderedDict[str, AdapterWeights] = OrderedDict()
        self._users: Counter[str] = Counter()  # running sequences
        self._dropped: set[str] = set()

    def register(self, adapter_id: str, folder: Path) -> None:
        """Learn where an adapter is; raises AdapterError where it cannot be served."""
        self._check(folder)
        self._folders[adapter_id] = folder
        self._dropped.discard(adapter_id)

    def drop(self, adapter_id: str) -> None:
        """Give its memory back as soon as no running sequence uses it."""
        self._dropped.add(adapter_id)
        self._evict_dropped(adapter_id)

    def knows(self, adapter_id: str) -> bool:
        """Whether it was registered. A dropped one is still served to those that came before."""
        return adapter_id in self._folders

    def weights(self, adapter_id: str) -> AdapterWeights:
        """Those of an adapter that was acquired."""
        return self._resident[adapter_id]

    def acquire(self, adapter_id: str | None) -> bool:
        """Bring it into memory for a sequence; False where running ones take all the room.

        Raises AdapterError where it cannot be loaded any more.
        """
        if adapter_id is None:
            return True
        if adapter_id not in self._resident:
            if not self._make_room():
                return False
            self._resident[adapter_id] = self._load(self._folder(adapter_id), adapter_id)
            _log.info("adapter %s is in memory", adapter_id)
        self._resident.move_to_end(adapter_id)
        self._users[adapter_id] += 1
        return True

    def release(self, adapter_id: str | None) -> None:
        """A sequence runs no longer."""
        if adapter_id is not None:
            self._users[adapter_id] -= 1
            self._evict_dropped(adapter_id)

    def _folder(self, adapter_id: str) -> Path:
        folder = self._folders.get(adapter_id)
        if folder is None:
            raise AdapterError("the adapter is not served here any more")
        return folder

    def _make_room(self) -> bool:
        if len(self._resident) < self._max_adapters:
            return True
        idle = next((each for each in self._resident if not self._users[each]), None)
        if idle is None:
            return False
        del self._resident[idle]
        return True

    def _evict_dropped(self, adapter_id: str) -> None:
        if adapter_id in self._dropped and not self._users[adapter_id]:
            self._resident.pop(adapter_id, None)
