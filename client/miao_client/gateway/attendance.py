"""Work for an HTTP caller, for as long as that caller is there.

Starlette's own streaming response cancels its generator by a scope that cancels every
await within it too, also the one that would tell the service; so this watches the
connection itself, and what was begun is closed in peace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from starlette.types import Receive, Scope, Send

from miao_client.errors import MiaoError
from miao_client.gateway.errors import Refusal

_T = TypeVar("_T")


class CallerLeft(Exception):  # noqa: N818  # reads as what happened
    """The connection was closed before the answer was complete."""


async def attended(receive: Receive, work: Coroutine[Any, Any, _T]) -> _T:
    """Do the work, unless the caller leaves before it is done.

    Raises:
        CallerLeft: It did; the work was cancelled, and has ended.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerLeft
        return working.result()
    finally:
        for task in (leaving, working):
            await _end(task)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Future[Any]) -> None:
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, MiaoError):
            await task


class EventStream:
    """A response of server-sent events, each a JSON object, and `[DONE]` at the end.

    An error amid the stream is an event too, as OpenAI's clients expect it: the status
    was sent long before. `close` is called at the end in any case.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[dict[str, Any], None],
        close: Callable[[], Awaitable[None]],
        headers: dict[str, str],
    ) -> None:
        self._pieces = pieces
        self._close = close
        self._headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",  # nginx would gather the events
            **headers,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events for as long as somebody reads them."""
        try:
            with contextlib.suppress(CallerLeft):
                await attended(receive, self._send(send))
        finally:
            await self._close()

    async def _send(self, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in self._headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async with contextlib.aclosing(self._pieces) as pieces:
                async for piece in pieces:
                    await send(_event(piece))
        except MiaoError as error:
            await send(_event(Refusal.of(error).body))
        else:
            await send(_body(b"data: [DONE]\n\n"))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(piece: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(piece, ensure_ascii=False, separators=(",", ":"))
    return _body(f"data: {text}\n\n".encode())


def _body(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}
