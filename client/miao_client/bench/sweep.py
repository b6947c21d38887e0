"""One benchmark: each load in turn."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from miao_client.aio.client import AsyncClient
from miao_client.bench import metrics
from miao_client.bench.loads import Closed, Load
from miao_client.bench.plan import planned, warming
from miao_client.bench.records import Record
from miao_client.bench.runner import Runner
from miao_client.bench.settings import Settings
from miao_client.bench.workload import Workload
from miao_client.results import Model


@dataclass(frozen=True, slots=True)
class Point:
    """What one load has shown."""

    load: Load
    metrics: metrics.Metrics
    records: tuple[Record, ...] = field(default=(), repr=False)  # where they are kept
    num_unfinished: int = 0  # requests that an interruption cancelled
    num_warmup_failed: int = 0
    generator_cpu: float = 0.0  # the generator's own use, in cores


@dataclass(slots=True)
class Report:
    """All that a benchmark has shown so far."""

    settings: Settings
    targets: tuple[str, ...]
    model: Model
    begin: datetime = field(default_factory=lambda: datetime.now(UTC))
    points: list[Point] = field(default_factory=list)
    interrupted: signal.Signals | None = None


# Shows the course of a load: entered when it begins; what it gives is told of each end.
Watch: TypeAlias = Callable[[Load], AbstractContextManager[Callable[[Record], None]]]


class Sweep:
    """Measures each load of the settings; `report` grows with each.

    SIGINT and SIGTERM end it: what runs is cancelled, what has ended is counted.
    """

    def __init__(
        self,
        client: AsyncClient,
        settings: Settings,
        model: Model,
        workload: Workload,
        *,
        keep_records: bool = False,
    ) -> None:
        self.report = Report(settings, client.settings.targets, model)
        self._client = client
        self._settings = settings
        self._workload = workload
        self._keep_records = keep_records

    async def run(self, watch: Watch, measured: Callable[[Report], None]) -> Report:
        """Measure; `measured` is told after each load."""
        for index, load in enumerate(self._settings.loads):
            with watch(load) as ended:
                self.report.points.append(await self._measure(index, load, ended))
            measured(self.report)
            if self.report.interrupted:
                break
        return self.report

    async def _measure(self, index: int, load: Load, ended: Callable[[Record], None]) -> Point:
        warmup = Runner(self._client, self._settings, lambda record: None)
        await self._unless_interrupted(self._warm(warmup, index, load))
        runner = Runner(self._client, self._settings, ended)
        began, used = time.perf_counter(), time.process_time()
        await self._unless_interrupted(self._offer(runner, index, load))
        used, passed = time.process_time() - used, time.perf_counter() - began
        return Point(
            load=load,
            metrics=metrics.summarize(runner.records, self._settings.slo),
            records=tuple(runner.records) if self._keep_records else (),
            num_unfinished=runner.num_unfinished,
            num_warmup_failed=sum(record.failed is not None for record in warmup.records),
            generator_cpu=used / passed if passed > 0 else 0.0,
        )

    async def _warm(self, runner: Runner, index: int, load: Load) -> None:
        """The requests before; in an open loop all at once, since nothing says how many wait."""
        plan = warming(self._settings, self._workload, index)
        together = load.concurrency if isinstance(load, Closed) else self._settings.warmup
        await runner.closed_loop(plan, together)

    async def _offer(self, runner: Runner, index: int, load: Load) -> None:
        plan = planned(self._settings, self._workload, load, index)
        if isinstance(load, Closed):
            await runner.closed_loop(plan, load.concurrency, self._settings.duration)
        else:
            await runner.open_loop(plan)

    async def _unless_interrupted(self, work: Coroutine[None, None, None]) -> None:
        if self.report.interrupted:
            work.close()
            return
        task = asyncio.ensure_future(work)

        def interrupt(number: signal.Signals) -> None:
            self.report.interrupted = number
            task.cancel()

        with _signals_to(interrupt):
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # raises what is no failure of a request, but of this program


@contextmanager
def _signals_to(interrupt: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Tell of Ctrl-C and SIGTERM, the first time; a second one ends the program."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def once(number: signal.Signals) -> None:
        restore()
        interrupt(number)

    def restore() -> None:
        for number, handler in before.items():
            if loop.remove_signal_handler(number):
                signal.signal(number, handler)

    for number in before:
        loop.add_signal_handler(number, once, number)
    try:
        yield
    finally:
        restore()
