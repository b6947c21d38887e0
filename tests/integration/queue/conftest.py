"""A clock that a test moves, which the scripts take for Redis's time, and what goes by it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis import Redis

from miao_queue import connection, scripts
from miao_queue.claims import ClaimStore
from miao_queue.store import GenerationStore

_OFFSET = "test:offset-ms"


@pytest.fixture
def let_pass(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass, for all stores that are made after this fixture."""
    source = scripts.source

    def moved(name: str) -> str:
        text = source(name)
        begin = "local function now_ms()"
        assert begin in text
        moved = (
            "local function now_ms()\n"
            "  local time = redis.call('TIME')\n"
            f"  local offset = tonumber(redis.call('GET', '{_OFFSET}') or 0)\n"
            "  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + offset\n"
            "end\n\nlocal function real_ms()"
        )
        return text.replace(begin, moved, 1)

    monkeypatch.setattr(scripts, "source", moved)

    def let_pass(seconds: float) -> None:
        with Redis.from_url(redis_url) as client:
            client.incrby(_OFFSET, int(seconds * 1000))

    return let_pass


@pytest.fixture
async def store(redis_url: str, let_pass: Any) -> AsyncIterator[GenerationStore]:
    """A front's side."""
    client = connection.connect_async(redis_url)
    yield GenerationStore(client, "front-1")
    await client.aclose()


@pytest.fixture
def database(redis_url: str) -> Any:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def claims(database: Any, let_pass: Any) -> ClaimStore:
    """A worker's side."""
    return ClaimStore(database, "w", 3_600_000)
