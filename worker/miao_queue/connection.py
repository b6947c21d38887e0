"""Connections to a Redis or Valkey, from an address as `addresses` has them."""

from __future__ import annotations

import logging
import time
from typing import Any

from redis import Redis, exceptions
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from miao_queue.addresses import (
    RedisUrlError,
    SentinelAddress,
    ShardMap,
    check_url,
    redact_url,
)

__all__ = ["RedisUrlError", "check_url", "connect", "connect_async", "redact_url"]

_log = logging.getLogger(__name__)

# Longer than any blocking read of ours, so that a read that blocks is never
# taken for a broken connection.
_SOCKET_TIMEOUT_SECONDS = 15.0
_CONNECT_TIMEOUT_SECONDS = 5.0
# Where sentinels choose another primary, the host of the old one is perhaps silent; nobody
# should wait for it for longer than it takes to choose. Longer than any blocking read, too.
_FAILOVER_SECONDS = 5.0
_SENTINEL_OPTIONS: dict[str, Any] = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0}


def connect(url: str) -> Redis:
    """A synchronous client. Replies are bytes."""
    url = _only(url)
    options: dict[str, Any] = {
        "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "socket_keepalive": True,
        "health_check_interval": 10,
        "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=3),
        "retry_on_error": [exceptions.ConnectionError, exceptions.TimeoutError],
    }
    address = SentinelAddress.parse(url)
    if address is None:
        return Redis.from_url(url, **options)
    about = _SENTINEL_OPTIONS | address.sentinel_options | {"retry": Retry(NoBackoff(), 0)}
    sentinel: Any = Sentinel(address.sentinels, sentinel_kwargs=about)  # type: ignore[no-untyped-call]
    primary: Redis = sentinel.master_for(
        address.service,
        redis_class=Redis,
        **(options | address.options | {"socket_timeout": _FAILOVER_SECONDS}),
    )
    return primary


def connect_async(url: str, max_connections: int = 64) -> AsyncRedis:
    """An asynchronous client. Replies are bytes.

    A burst of commands waits for one of the connections instead of failing. A
    command on a connection that broke unnoticed is sent again on a fresh one.
    """
    url = _only(url)
    options: dict[str, Any] = {
        "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
        "health_check_interval": 10,
        "max_connections": max_connections,
        "timeout": _SOCKET_TIMEOUT_SECONDS,
        "retry": AsyncRetry(NoBackoff(), retries=1),
    }
    address = SentinelAddress.parse(url)
    if address is None:
        return AsyncRedis.from_pool(BlockingConnectionPool.from_url(url, **options))
    about = _SENTINEL_OPTIONS | address.sentinel_options | {"retry": AsyncRetry(NoBackoff(), 0)}
    sentinel = AsyncSentinel(address.sentinels, sentinel_kwargs=about)  # type: ignore[no-untyped-call]
    options |= address.options | {"socket_timeout": _FAILOVER_SECONDS}
    pool = _SentinelPool(address.service, sentinel, **options)  # type: ignore[no-untyped-call]
    return AsyncRedis.from_pool(pool)


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the primary that sentinels name; who finds none free waits.

    Its sentinels are its own, and are hung up with it.
    """

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:  # not: another has become the primary
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()


def _only(text: str) -> str:
    """The address of a list of one."""
    shards = ShardMap.parse(text).shards
    if len(shards) != 1:
        raise RedisUrlError("several addresses of Redis, where one can be used")
    return shards[0].url


def wait_until_ready(connection: Redis, seconds: float) -> None:
    """Wait for a Redis that is not there yet, or still loads its file, for so long.

    Raises RedisError for the reason that remains, and at once for any other one.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.ping()
        except exceptions.AuthenticationError:
            raise  # a kind of ConnectionError, but waiting does not help
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            if time.monotonic() >= deadline:
                raise
            _log.info("waiting for Redis (%s)", type(error).__name__)
            time.sleep(min(0.5, seconds))
        else:
            return
