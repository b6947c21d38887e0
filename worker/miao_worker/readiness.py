"""Whether a pipe has something to read."""

from __future__ import annotations

import select
from multiprocessing.connection import Connection
from typing import Any


class Readiness:
    """As `Connection.poll`, for who asks it at every step: that makes a selector each time."""

    def __init__(self, connection: Connection[Any, Any]) -> None:
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)

    def wait(self, seconds: float | None) -> bool:
        """Wait for so long, None: for ever. True also where only reading tells what is wrong."""
        return bool(self._poll.poll(None if seconds is None else seconds * 1000))
