"""Connections to Redis or Valkey, from an address.

`redis://`, `rediss://` (TLS) and `unix://`, each with user and password:
redis://user:password@host:6379/0, unix:///run/valkey.sock?db=0.
"""

from __future__ import annotations

import logging
import time

from redis import Redis, exceptions
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

_log = logging.getLogger(__name__)

SCHEMES = ("redis://", "rediss://", "unix://")

# Longer than any blocking read of ours, so that a read that blocks is never
# taken for a broken connection.
_SOCKET_TIMEOUT_SECONDS = 15.0
_CONNECT_TIMEOUT_SECONDS = 5.0


class RedisUrlError(ValueError):
    """The address of Redis is not one that we can use."""


def connect(url: str) -> Redis:
    """A synchronous client. Replies are bytes."""
    check_url(url)
    return Redis.from_url(
        url,
        socket_timeout=_SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        socket_keepalive=True,
        health_check_interval=10,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=3),
        retry_on_error=[exceptions.ConnectionError, exceptions.TimeoutError],
    )


def connect_async(url: str, max_connections: int = 64) -> AsyncRedis:
    """An asynchronous client. Replies are bytes.

    A burst of commands waits for one of the connections instead of failing. A
    command on a connection that broke unnoticed is sent again on a fresh one.
    """
    check_url(url)
    pool = BlockingConnectionPool.from_url(
        url,
        socket_timeout=_SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=_CONNECT_TIMEOUT_SECONDS,
        health_check_interval=10,
        max_connections=max_connections,
        timeout=_SOCKET_TIMEOUT_SECONDS,
        retry=AsyncRetry(NoBackoff(), retries=1),
    )
    return AsyncRedis.from_pool(pool)


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


def check_url(url: str) -> None:
    """Raise RedisUrlError if the address has none of the schemes; never says its password."""
    if not url.startswith(SCHEMES):
        raise RedisUrlError(f"the address of Redis must start with one of {', '.join(SCHEMES)}")


def redact_url(url: str) -> str:
    """The address without user and password, for logs."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
