"""Sends requests as planned, and keeps what came of each."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable, Iterator

from miao_client.aio.client import AsyncClient
from miao_client.bench.plan import Planned
from miao_client.bench.records import Failed, Record, finished
from miao_client.bench.settings import Settings
from miao_client.bench.workload import Request
from miao_client.errors import GenerationFailedError, MiaoError

clock = time.perf_counter


class Runner:
    """The callers of one load.

    Whatever goes wrong with a request is kept in its record; only cancelling
    ends a loop early, and cancels with it what runs at the service.
    """

    def __init__(
        self, client: AsyncClient, settings: Settings, ended: Callable[[Record], None]
    ) -> None:
        self.records: list[Record] = []
        self.num_unfinished = 0  # cancelled with the loop
        self._client = client
        self._settings = settings
        self._ended = ended

    async def closed_loop(
        self, plan: Iterator[Planned], concurrency: int, seconds: float | None = None
    ) -> None:
        """Let so many callers share the plan; none sends when the time is over."""
        end = math.inf if seconds is None else clock() + seconds
        async with asyncio.TaskGroup() as callers:
            for _ in range(concurrency):
                callers.create_task(self._caller(plan, end))

    async def open_loop(self, plan: Iterator[Planned]) -> None:
        """Send each request when it is due, whatever became of those before."""
        async with asyncio.TaskGroup() as callers:
            begin = clock()
            for planned in plan:  # which makes the next request before its time
                intended = begin + (planned.at or 0.0)
                # Also when late: only while this loop waits do requests leave.
                await asyncio.sleep(max(0.0, intended - clock()))
                callers.create_task(self._send(planned.request, intended))

    async def _caller(self, plan: Iterator[Planned], end: float) -> None:
        while clock() < end and (planned := next(plan, None)) is not None:
            await self._send(planned.request)

    async def _send(self, request: Request, intended: float | None = None) -> None:
        sent = clock()
        try:
            record = await self._observe(request, sent if intended is None else intended, sent)
        except asyncio.CancelledError:
            self.num_unfinished += 1
            raise
        self.records.append(record)
        self._ended(record)

    async def _observe(self, request: Request, intended: float, sent: float) -> Record:
        settings = self._settings
        times, sizes = array("d"), array("I")
        try:
            async with self._client.generate(
                request.prompt,
                max_tokens=request.max_tokens,
                seed=request.seed,
                temperature=settings.temperature,
                ignore_eos=settings.ignore_eos or None,
                timeout=settings.timeout,
            ) as stream:
                async for chunk in stream:
                    times.append(clock())
                    sizes.append(len(chunk.token_ids))
                ended = clock()
                return finished(await stream.result(), intended, sent, ended, times, sizes)
        except MiaoError as error:
            return Record(intended, sent, clock(), times, sizes, failed=_failed(error))


def _failed(error: MiaoError) -> Failed:
    kind = error.reason if isinstance(error, GenerationFailedError) else error.code
    return Failed(kind, error.message)
