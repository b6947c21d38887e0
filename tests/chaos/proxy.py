"""A way between callers and a front that can be cut, or fall silent."""

from __future__ import annotations

import asyncio
import contextlib

_CHUNK_BYTES = 65536
_CONNECT_SECONDS = 3.0


class Proxy:
    """Passes bytes on to a target, and breaks its connections on demand."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._upstream = (host, int(port))
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self.target = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.target = f"127.0.0.1:{port}"

    async def close(self) -> None:
        self.resume()
        self._server.close()
        self.cut()
        await asyncio.sleep(0.1)  # for the pumps to see that their connections are gone

    def cut(self) -> int:
        """Reset every connection, at whatever byte it is; returns how many."""
        count = len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()
        return count

    def silence(self) -> None:
        """Pass nothing on from now, and close nothing: a network that lost its way."""
        self._flows.clear()

    def resume(self) -> None:
        """Pass on what has waited."""
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                upstream_reader, upstream_writer = await asyncio.open_connection(*self._upstream)
        except OSError:  # TimeoutError is one
            writer.transport.abort()
            return
        pair = {writer, upstream_writer}
        self._writers |= pair
        try:
            await asyncio.gather(
                self._pump(reader, upstream_writer), self._pump(upstream_reader, writer)
            )
        finally:
            self._writers -= pair
            for each in pair:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()
