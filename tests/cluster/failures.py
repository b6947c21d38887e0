"""What happens to hosts, and to deployments: each kind once, in its turn."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum

from redis import Redis

from ..chaos.failures import Failures
from ..chaos.process import FleetError, Process
from ..chaos.schedule import Failure
from .autoscaler import COUNT, Autoscaler, Rule
from .network import NamespaceHost


class ClusterKind(StrEnum):
    """A way for a cluster to change or fail."""

    FRONTS_ROLLED = "fronts rolled"  # SIGTERM and a new one, a host after the other
    WORKERS_ROLLED = "workers rolled"  # a new one, then SIGTERM to the old one, likewise
    FRONT_CUT = "front host cut off"
    WORKER_CUT = "worker host cut off"  # longer than its lease
    WORKER_DEAF = "worker host deaf to Redis"  # what it sends arrives, no answer does
    REDIS_CUT = "Redis host cut off"
    REDIS_CUT_SHORTLY = "Redis host cut off, shortly"
    WORKER_LOST = "worker host lost"  # for good; a worker on another host takes its place
    FRONT_LOST = "front host lost"  # until another has its address
    SCALED = "scaled to none and back"  # by the manifests' rule, while callers go on


class ClusterFailures(Failures):
    """Makes them happen to a fleet on hosts of a network. The last worker host is a spare."""

    spare: NamespaceHost
    rule: Rule

    async def run(self, failures: Sequence[Failure]) -> None:
        """All of them in turn, each so long after the one before was mended."""
        for failure in failures:
            await asyncio.sleep(failure.at_seconds)
            await self._guarded(failure)

    async def _do(self, failure: Failure) -> None:
        match failure.kind:
            case ClusterKind.FRONTS_ROLLED:
                await self._roll_fronts(failure)
            case ClusterKind.WORKERS_ROLLED:
                await self._roll_workers(failure)
            case ClusterKind.FRONT_CUT:
                await self._cut(failure, self._fleet.fronts)
            case ClusterKind.WORKER_CUT:
                await self._cut(failure, self._fleet.workers)
            case ClusterKind.WORKER_DEAF:
                await self._deafen(failure)
            case ClusterKind.REDIS_CUT | ClusterKind.REDIS_CUT_SHORTLY:
                await self._cut(failure, [self._fleet.redis])
            case ClusterKind.WORKER_LOST:
                await self._lose_worker(failure)
            case ClusterKind.FRONT_LOST:
                await self._lose_front(failure)
            case ClusterKind.SCALED:
                await self._scale(failure)

    async def _roll_fronts(self, failure: Failure) -> None:
        with self._all_busy(self._fleet.fronts), self._event(failure, "fronts"):
            for front in self._fleet.fronts:
                await self._end_in_peace(front)
                await self._start(front)

    async def _roll_workers(self, failure: Failure) -> None:
        workers = list(self._fleet.workers)
        with self._all_busy(workers), self._event(failure, "workers"):
            for slot, old in enumerate(workers):
                new = self._fleet.make_worker(old.host)
                await self._start(new)
                self._fleet.replace_worker(slot, new)
                await self._end_in_peace(old)

    async def _end_in_peace(self, process: Process) -> None:
        process.signal(signal.SIGTERM)
        await process.wait_ended()
        if process.status != 0:
            raise FleetError(f"{process.name} ended with {process.status}:\n{process.tail()}")

    async def _cut(self, failure: Failure, parts: Sequence[Process]) -> None:
        async with self._host_of(failure, parts) as (process, host):
            with self._event(failure, f"host of {process.name} for {failure.seconds:.1f} s"):
                host.cut()
                try:
                    await asyncio.sleep(failure.seconds)
                finally:
                    host.join()

    async def _deafen(self, failure: Failure) -> None:
        redis = self._fleet.redis.host
        assert isinstance(redis, NamespaceHost)
        async with self._host_of(failure, self._fleet.workers) as (worker, host):
            with self._event(failure, f"host of {worker.name} for {failure.seconds:.1f} s"):
                redis.deafen(host)
                try:
                    await asyncio.sleep(failure.seconds)
                finally:
                    redis.undeafen(host)

    async def _lose_worker(self, failure: Failure) -> None:
        """Cut its host, end all there a moment later, and start another elsewhere."""
        async with self._host_of(failure, self._fleet.workers) as (worker, host):
            with self._event(failure, f"host of {worker.name}"):
                host.cut()
                worker.signal(signal.SIGKILL)
                await worker.wait_ended()
                await asyncio.sleep(failure.seconds)
                new = self._fleet.make_worker(self.spare)
                await self._start(new)
                self._fleet.replace_worker(self._fleet.workers.index(worker), new)

    async def _lose_front(self, failure: Failure) -> None:
        """Cut its host, end all there, and bring another of its address a while later."""
        async with self._host_of(failure, self._fleet.fronts) as (front, host):
            with self._event(failure, f"host of {front.name}"):
                host.cut()
                front.signal(signal.SIGKILL)
                await front.wait_ended()
                await asyncio.sleep(failure.seconds)
                host.join()
                await self._start(front)

    async def _scale(self, failure: Failure) -> None:
        """End all workers, and start as many as the manifests' rule says, from none.

        How long that takes to be noticed is KEDA's pollingInterval.
        """
        workers = list(self._fleet.workers)
        with self._all_busy(workers):
            with self._event(failure, "workers"), Redis.from_url(self._fleet.redis_url) as redis:
                await asyncio.gather(*map(self._end_in_peace, workers))
                scaler = Autoscaler(
                    self.rule,
                    lambda key: int(redis.eval(COUNT, 1, key)),  # type: ignore[arg-type]
                )
                while not scaler.replicas:
                    await asyncio.sleep(self.rule.polling_seconds)
                    scaler.advance(self.rule.polling_seconds)
                self._say(f"{scaler.metric:.0f} wait and run: {scaler.replicas} of {len(workers)}")
                await asyncio.gather(*map(self._start, workers[: scaler.replicas]))
            await asyncio.gather(*map(self._start, workers[scaler.replicas :]))

    @asynccontextmanager
    async def _host_of(
        self, failure: Failure, parts: Sequence[Process]
    ) -> AsyncIterator[tuple[Process, NamespaceHost]]:
        async with self._victim(failure, parts) as process:
            if process is None:
                raise FleetError("all of its kind are failing already")
            assert isinstance(process.host, NamespaceHost)
            yield process, process.host

    @contextmanager
    def _all_busy(self, processes: Sequence[Process]) -> Iterator[None]:
        names = {process.name for process in processes}
        self._busy |= names
        try:
            yield
        finally:
            self._busy -= names
