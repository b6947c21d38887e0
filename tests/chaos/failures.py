"""Does what the schedule says to the fleet, and mends it again."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import StrEnum

import psutil
from redis import Redis
from redis.exceptions import RedisError

from .fleet import Fleet
from .process import FleetError, Process
from .proxy import Proxy
from .schedule import Failure, Kind

_ENGINE_SECONDS = 60.0  # for a worker to have an engine again
_ORPHAN_SECONDS = 10.0  # for an engine to follow its worker
_LOSS_SECONDS = 1.0  # what `appendfsync everysec` may lose
_MOST_STARTS, _START_SECONDS = 4, 1.0  # of a process that ends at its start
_WORTH_SAYING_SECONDS = 0.5


@dataclass(slots=True, eq=False)
class Event:
    """A failure that came: times are of the monotonic clock."""

    kind: StrEnum
    victim: str
    began: float
    mended: float | None = None


class Failures:
    """Makes failures happen. One part of the fleet fails in one way at a time.

    `say` gets a line for each; `faults` holds what the fleet itself did wrong.
    """

    def __init__(self, fleet: Fleet, proxies: Sequence[Proxy], say: Callable[[str], None]) -> None:
        self.events: list[Event] = []
        self.faults: list[str] = []
        self._fleet = fleet
        self._proxies = proxies
        self._say = say
        self._busy: set[str] = set()

    async def run(self, failures: Sequence[Failure]) -> None:
        """All of them, each at its time; returns when everything is mended."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for failure in failures:
                wait = began + failure.at_seconds - time.monotonic()
                await asyncio.sleep(max(0.0, wait))
                tasks.create_task(self._guarded(failure))

    async def watch(self) -> None:
        """Replace for ever what ends unasked, which is a fault."""
        while True:
            for process in self._fleet.ended_unasked():
                if process.name in self._busy:
                    continue  # who mishandles it also brings it back
                fault = f"{process.name} ended by itself with status {process.status}"
                self.faults.append(f"{fault}:\n{process.tail()}")
                self._say(f"FAULT {fault}")
                process.start()
            await asyncio.sleep(0.1)

    async def _guarded(self, failure: Failure) -> None:
        try:
            await self._do(failure)
        except (FleetError, psutil.Error) as error:
            self.faults.append(f"{failure.kind}: {error}")
            self._say(f"FAULT {failure.kind}: {str(error).splitlines()[0]}")

    async def _do(self, failure: Failure) -> None:
        match failure.kind:
            case Kind.ENGINE_KILL:
                await self._engine(failure, signal.SIGKILL)
            case Kind.ENGINE_HANG:
                await self._engine(failure, signal.SIGSTOP)
            case Kind.WORKER_KILL:
                await self._kill_worker(failure)
            case Kind.WORKER_UPDATE:
                await self._update_worker(failure)
            case Kind.WORKER_STOP | Kind.FRONT_STOP | Kind.REDIS_STOP:
                await self._pause(failure)
            case Kind.FRONT_KILL | Kind.FRONT_UPDATE:
                await self._restart_front(failure)
            case Kind.REDIS_KILL | Kind.REDIS_LOSS:
                await self._kill_redis(failure)
            case Kind.REDIS_CUT:
                await self._cut_redis(failure)
            case Kind.CALLER_CUT | Kind.CALLER_SILENCE:
                await self._disturb_callers(failure)

    async def _engine(self, failure: Failure, number: signal.Signals) -> None:
        async with self._victim(failure, self._fleet.workers) as worker:
            if worker is None:
                return
            engine = await _engine_of(worker)
            with self._event(failure, f"engine of {worker.name}"):
                engine.send_signal(number)
                try:
                    await _until(lambda: not _exists(engine), _ENGINE_SECONDS, "it stays")
                    await _engine_of(worker)
                finally:
                    if _exists(engine):
                        engine.kill()

    async def _kill_worker(self, failure: Failure) -> None:
        async with self._victim(failure, self._fleet.workers) as worker:
            if worker is None:
                return
            engine = worker.engine()
            with self._event(failure, worker.name):
                worker.signal(signal.SIGKILL)
                await worker.wait_ended()
                await asyncio.sleep(failure.seconds)
                await self._start(worker)
            if engine is not None:
                await _until(
                    lambda: not _exists(engine), _ORPHAN_SECONDS, "an engine outlives its worker"
                )

    async def _update_worker(self, failure: Failure) -> None:
        async with self._victim(failure, self._fleet.workers) as old:
            if old is None:
                return
            new = self._fleet.make_worker(old.host)
            await self._start(new)
            with self._event(failure, f"{old.name} for {new.name}"):
                old.signal(signal.SIGTERM)
                self._fleet.replace_worker(self._fleet.workers.index(old), new)
                await old.wait_ended()
            if old.status != 0:
                raise FleetError(f"{old.name} ended with {old.status}:\n{old.tail()}")

    async def _pause(self, failure: Failure) -> None:
        parts = {
            Kind.WORKER_STOP: self._fleet.workers,
            Kind.FRONT_STOP: self._fleet.fronts,
            Kind.REDIS_STOP: [self._fleet.redis],
        }
        async with self._victim(failure, parts[failure.kind]) as process:
            if process is None:
                return
            with self._event(failure, f"{process.name} for {failure.seconds:.1f} s"):
                process.signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(failure.seconds)
                finally:
                    process.signal(signal.SIGCONT)

    async def _restart_front(self, failure: Failure) -> None:
        async with self._victim(failure, self._fleet.fronts) as front:
            if front is None:
                return
            killed = failure.kind is Kind.FRONT_KILL
            with self._event(failure, front.name):
                front.signal(signal.SIGKILL if killed else signal.SIGTERM)
                await front.wait_ended()
                status = front.status
                await asyncio.sleep(failure.seconds)
                await self._start(front)
            if not killed and status != 0:
                raise FleetError(f"{front.name} ended with {status}:\n{front.tail()}")

    async def _kill_redis(self, failure: Failure) -> None:
        async with self._victim(failure, [self._fleet.redis]) as redis:
            if redis is None:
                return
            written = None
            if failure.kind is Kind.REDIS_LOSS:
                written = self._fleet.aof_bytes()
                await asyncio.sleep(_LOSS_SECONDS)
            with self._event(failure, redis.name):
                redis.signal(signal.SIGKILL)
                await redis.wait_ended()
                if written is not None:
                    self._say(f"lost the last {self._fleet.cut_aof(written)} bytes of its file")
                await asyncio.sleep(failure.seconds)
                redis.start()
                await self._fleet.wait_redis()

    async def _cut_redis(self, failure: Failure) -> None:
        async with self._victim(failure, [self._fleet.redis]) as redis:
            if redis is None:
                return
            try:
                with (
                    self._event(failure, "connections of workers and fronts"),
                    Redis.from_url(self._fleet.redis_url, socket_timeout=2) as client,
                ):
                    client.client_kill_filter(_type="normal", skipme=True)
            except RedisError as error:
                raise FleetError(f"Valkey does not answer: {error}") from error

    async def _disturb_callers(self, failure: Failure) -> None:
        proxy = self._proxies[failure.slot % len(self._proxies)]
        with self._event(failure, f"connections to {self._fleet.fronts[failure.slot].name}"):
            if failure.kind is Kind.CALLER_CUT:
                proxy.cut()
                return
            proxy.silence()
            await asyncio.sleep(failure.seconds)
            proxy.resume()

    async def _start(self, process: Process) -> None:
        """Start it, as an orchestrator would: again, where it ends for want of a Redis."""
        for _ in range(_MOST_STARTS):
            process.start()
            try:
                return await process.wait_ready()
            except FleetError:
                if process.runs:
                    raise
            self._say(f"{process.name} ended at its start with {process.status}; once more")
            await asyncio.sleep(_START_SECONDS)
        raise FleetError(f"{process.name} cannot start:\n{process.tail()}")

    @asynccontextmanager
    async def _victim(
        self, failure: Failure, parts: Sequence[Process]
    ) -> AsyncIterator[Process | None]:
        """The part that fails, or another of its kind; None if all are failing already."""
        order = [parts[(failure.slot + i) % len(parts)] for i in range(len(parts))]
        process = next((p for p in order if p.runs and p.name not in self._busy), None)
        if process is None:
            self._say(f"{failure.kind} falls out: all of its kind are failing already")
            yield None
            return
        self._busy.add(process.name)
        try:
            yield process
        finally:
            self._busy.discard(process.name)

    @contextmanager
    def _event(self, failure: Failure, victim: str) -> Iterator[None]:
        """What happens within is the failure, until it is mended."""
        event = Event(failure.kind, victim, time.monotonic())
        self.events.append(event)
        self._say(f"{failure.kind} {victim}")
        try:
            yield
        finally:
            event.mended = time.monotonic()
            if event.mended - event.began > _WORTH_SAYING_SECONDS:
                self._say(f"{failure.kind} {victim}: over after {event.mended - event.began:.1f} s")


async def _engine_of(worker: Process) -> psutil.Process:
    deadline = time.monotonic() + _ENGINE_SECONDS
    while (engine := worker.engine()) is None:
        if not worker.runs or time.monotonic() > deadline:
            raise FleetError(f"{worker.name} has no engine:\n{worker.tail()}")
        await asyncio.sleep(0.1)
    return engine


async def _until(condition: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise FleetError(complaint)
        await asyncio.sleep(0.05)


def _exists(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
