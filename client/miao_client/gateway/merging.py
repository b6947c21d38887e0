"""Several streams as one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")


async def merged(courses: Sequence[AsyncIterator[_T]]) -> AsyncGenerator[_T, None]:
    """What comes of any of them, when it comes; the first error ends all."""
    coming = {asyncio.ensure_future(anext(course)): course for course in courses}
    try:
        while coming:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                course = coming.pop(task)
                with contextlib.suppress(StopAsyncIteration):
                    each = task.result()
                    coming[asyncio.ensure_future(anext(course))] = course
                    yield each
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)
