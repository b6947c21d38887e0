"""The connection on which a front reads its journals."""

from __future__ import annotations

import contextlib
from typing import Any

import hiredis
from redis.asyncio import Redis

Word = bytes | str | int


class JournalConnection:
    """A connection of its own, made when first needed and after each error.

    A read names every journal that the front follows, so the words are packed
    in C, and the reply is left as it comes.
    """

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None

    async def ask(self, *words: Word) -> Any:
        """Send a command and return the reply; whatever goes wrong, `drop` must follow."""
        if self._connection is None:
            self._connection = await self._pool.get_connection()
        command: Any = words  # its annotation takes a single word
        await self._connection.send_packed_command(hiredis.pack_command(command))
        return await self._connection.read_response()

    async def drop(self) -> None:
        """Hang up: after an error the connection may hold half a reply."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):  # it is broken, perhaps, and that is why
                await connection.disconnect(nowait=True)
                await self._pool.release(connection)
