"""The connection of the call that every step makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from miao_queue import connection
from miao_queue.script_connection import ScriptConnection


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connection.connect(redis_url) as client:
        yield client


def test_a_script_runs_again_after_redis_forgot_it_and_after_its_connection_was_cut(
    redis: Redis,
) -> None:
    append = ScriptConnection(redis, "append")
    unknown = ("nobody", "o", 0, 1, b"event")
    assert append(unknown) == [0, 4, 0]
    redis.script_flush()
    assert append(unknown) == [0, 4, 0]
    redis.client_kill_filter(_type="normal", skipme=True)
    assert append((*unknown, *unknown)) == [0, 4, 0, 1, 4, 0]


def test_an_error_of_the_script_is_the_callers_and_the_next_call_works(redis: Redis) -> None:
    append = ScriptConnection(redis, "append")
    redis.set("miao:gen:other", "a string")
    with pytest.raises(ResponseError):
        append(("other", "o", 0, 1, b"event"))
    assert append(("nobody", "o", 0, 1, b"event")) == [0, 4, 0]


def test_a_redis_that_is_away_is_an_error_of_redis() -> None:
    client = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=1, retry=None)
    append = ScriptConnection(client, "append")
    for _ in range(2):
        with pytest.raises(RedisError):
            append(("nobody", "o", 0, 1, b"event"))
