"""A clock that a test moves: what the scripts take for Redis's time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from miao_queue import scripts

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
