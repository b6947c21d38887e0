"""Clients of the SDK, as patient as chaos demands, over several ways to the fronts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TypedDict

from miao_client import AsyncClient, Client


class Patience(TypedDict):
    """How long a client goes on trying, in seconds."""

    call_timeout: float
    connect_timeout: float
    reconnect_timeout: float
    wait_when_busy: float


PATIENCE = Patience(
    call_timeout=90.0, connect_timeout=90.0, reconnect_timeout=90.0, wait_when_busy=90.0
)


class Clients:
    """A client of each kind over each route. Close it after use.

    Args:
        routes: targets of each way, the first preferred.
        num_threads: how many callers may be threads at once.
    """

    def __init__(self, routes: Sequence[Sequence[str]], num_threads: int) -> None:
        self._routes = routes
        self._clients = [Client(route, **PATIENCE) for route in routes]
        self._async_clients = [AsyncClient(route, **PATIENCE) for route in routes]
        self._threads = ThreadPoolExecutor(num_threads, "caller")

    async def close(self) -> None:
        for client in self._clients:
            await asyncio.to_thread(client.close)
        for async_client in self._async_clients:
            await async_client.close()
        self._threads.shutdown()

    def client(self, random: Random) -> Client:
        return random.choice(self._clients)

    def async_client(self, random: Random) -> AsyncClient:
        return random.choice(self._async_clients)

    def route(self, random: Random) -> Sequence[str]:
        return random.choice(self._routes)

    async def in_thread(self, function: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._threads, function)
