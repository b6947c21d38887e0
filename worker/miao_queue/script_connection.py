"""One script on a connection of its own, for the call that every step makes.

redis-py's client spends more on a call than Redis does on a batch of appends: it takes
a connection from a pool, looks whether it is stale, prepares a retry and gives it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from hashlib import sha1
from typing import Any

import hiredis
from redis import Redis, exceptions

from miao_queue import scripts

Word = bytes | str | int


class ScriptConnection:
    """Runs one script; for one thread.

    A script whose connection breaks is sent once more on another one: only for scripts
    that do the same twice as once. Hangs up after every other error.
    """

    def __init__(self, client: Redis, name: str) -> None:
        self._pool: Any = client.connection_pool
        self._source = scripts.source(name)
        self._sha = sha1(self._source.encode(), usedforsecurity=False).hexdigest()
        self._connection: Any = None

    def __call__(self, words: Sequence[Word]) -> Any:
        """The script's reply to these arguments. Raises RedisError."""
        try:
            return self._run(words)
        except exceptions.ConnectionError:  # cut, perhaps long ago
            return self._run(words)

    def _run(self, words: Sequence[Word]) -> Any:
        try:
            return self._ask("EVALSHA", self._sha, 0, *words)
        except exceptions.NoScriptError:  # Redis was started anew
            return self._ask("EVAL", self._source, 0, *words)

    def _ask(self, *words: Word) -> Any:
        if self._connection is None:
            self._connection = self._pool.get_connection()
        command: Any = words  # its annotation takes a single word
        try:
            self._connection.send_packed_command(
                [hiredis.pack_command(command)], check_health=False
            )
            return self._connection.read_response()
        except exceptions.NoScriptError:
            raise
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        """After an error the connection may hold half a reply."""
        connection, self._connection = self._connection, None
        with contextlib.suppress(Exception):  # it is broken, perhaps, and that is why
            connection.disconnect()
        self._pool.release(connection)
