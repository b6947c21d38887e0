"""Connections cut at any byte: each stream still brings every token once."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from miao_client import AsyncClient, Client

NUM_TOKENS = 60
NUM_STREAMS = 4
TEXTS = [random.Random(number).choice(["为", "ab", "", "😀", "c"]) for number in range(NUM_TOKENS)]


class CuttingProxy:
    """Passes bytes on to a server, and resets each connection after a random number."""

    def __init__(self, target: str, seed: int) -> None:
        self._upstream = target.rsplit(":", 1)
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.num_cuts = 0
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with ThreadPoolExecutor(max_workers=64) as pool, suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._upstream[0], int(self._upstream[1])))
                client.settimeout(20)
                server.settimeout(20)
                pool.submit(self._pump, client, server, 1 << 30)
                pool.submit(self._pump, server, client, self._random.randint(1, 3000))

    def _pump(self, source: socket.socket, sink: socket.socket, budget: int) -> None:
        with suppress(OSError):
            while budget > 0 and (data := source.recv(min(512, budget))):
                sink.sendall(data)
                budget -= len(data)
        self.num_cuts += budget == 0
        for each in (source, sink):
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.fixture
def proxy(service: Any, request: pytest.FixtureRequest) -> Iterator[CuttingProxy]:
    """A service whose every generation says TEXTS, behind a proxy that cuts."""

    def events(after: int, attempt: int) -> Iterator[Any]:
        number = after
        while number < NUM_TOKENS:
            count = random.Random(number + attempt).randint(1, min(3, NUM_TOKENS - number))
            event = service.tokens(number + count, "-" * count, count, attempt=attempt)
            said = TEXTS[number : number + count]
            event.tokens.text = "".join(said)
            event.tokens.text_lengths[:] = [len(text) for text in said]
            number += count
            yield event
        yield service.finished(NUM_TOKENS, attempt=attempt)

    def generate(_: Any) -> Any:
        return [service.accepted(), *events(0, 1)]

    def follow(request: Any) -> Any:
        after = max(0, request.after_sequence_number - 1)  # a front may send too much
        return events(after, len(service.calls))

    service.script("Generate", *[generate] * 1000)
    service.script("FollowGeneration", *[follow] * 1000)
    proxy = CuttingProxy(service.start(), seed=request.param)
    yield proxy
    proxy.close()


def check(results: list[Any], proxy: CuttingProxy) -> None:
    for result in results:
        assert result.token_ids == tuple(range(1, NUM_TOKENS + 1))
        assert result.text == "".join(TEXTS)
    assert proxy.num_cuts > 0


@pytest.mark.parametrize("proxy", range(3), indirect=True)
def test_threads_lose_and_repeat_nothing(proxy: CuttingProxy) -> None:
    with Client(proxy.target, connect_timeout=20) as client, ThreadPoolExecutor() as pool:
        streams = pool.map(lambda _: client.generate("hello").result(), range(NUM_STREAMS))
        results = list(streams)
    check(results, proxy)


@pytest.mark.parametrize("proxy", range(3, 6), indirect=True)
async def test_tasks_lose_and_repeat_nothing(proxy: CuttingProxy) -> None:
    async with AsyncClient(proxy.target, connect_timeout=20) as client:
        streams = [client.generate("hello").result() for _ in range(NUM_STREAMS)]
        results = await asyncio.gather(*streams)
    check(list(results), proxy)
