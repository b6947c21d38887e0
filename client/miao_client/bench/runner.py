"""Sends requests as planned, and keeps what came of each."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import random

from miao_client.aio.client import AsyncClient
from miao_client.bench.plan import Planned
from miao_client.bench.records import Failed, Record, finished
from miao_client.bench.settings import Settings
from miao_client.bench.workload import Request
from miao_client.errors import BusyError, GenerationFailedError, MiaoError
from miao_client.recovery import spread

_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 0.1, 5.0

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
        """Send until it is not refused, or the patience is over."""
        refusals = 0
        while True:
            record, refused = await self._answer(request, intended, sent)
            if refused is None:
                return replace(record, refusals=refusals)
            wait = _wait_after(refused, refusals)
            if clock() + wait - sent > self._settings.wait_when_busy:
                return replace(record, refusals=refusals)
            refusals += 1
            await asyncio.sleep(wait)

    async def _answer(
        self, request: Request, intended: float, sent: float
    ) -> tuple[Record, BusyError | None]:
        """What came of one sending, and the refusal where it was one."""
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
                result = await stream.result()
                return finished(result, intended, sent, ended, times, sizes), None
        except MiaoError as error:
            record = Record(intended, sent, clock(), times, sizes, failed=_failed(error))
            return record, error if isinstance(error, BusyError) else None


def _wait_after(refused: BusyError, refusals: int) -> float:
    """Seconds until the next try: what the service says, else longer each time; with jitter."""
    if refused.retry_after is not None:
        return spread(refused.retry_after, random())  # noqa: S311
    most = min(_MOST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2.0 ** min(refusals, 16))
    return most * random()  # noqa: S311


def _failed(error: MiaoError) -> Failed:
    kind = error.reason if isinstance(error, GenerationFailedError) else error.code
    return Failed(kind, error.message)
