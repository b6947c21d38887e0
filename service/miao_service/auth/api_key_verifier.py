"""Callers that show an API key."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from redis.exceptions import RedisError

from miao_queue.key_ring import KeyRing
from miao_service.auth.api_keys import PREFIX, ApiKey, is_genuine, split
from miao_service.auth.authenticator import Credentials
from miao_service.auth.identity import Identity, Scope
from miao_service.errors import BadCredentialsError, ExpiredCredentialsError

logger = logging.getLogger(__name__)

_MOST_KEYS = 10_000  # that are remembered, of known and of unknown ids
_USE_SECONDS = 60.0  # between two notes of a key's use


class KeySource(Protocol):
    """Where keys are looked up."""

    async def find(self, key_id: str) -> ApiKey | None: ...

    async def note_use(self, key_id: str) -> None: ...


@dataclass(slots=True)
class _Known:
    """What was found under an id, and when."""

    key: ApiKey | None
    at: float
    used_at: float = float("-inf")  # when its use was noted last


class ApiKeyVerifier:
    """Knows callers by API keys. A key that was revoked is refused `cache_seconds` later."""

    def __init__(
        self,
        source: KeySource,
        peppers: KeyRing,
        cache_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._peppers = peppers
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def verify(self, credentials: Credentials) -> Identity | None:
        if not credentials.bearer.startswith(PREFIX):
            return None
        parts = split(credentials.bearer)
        if parts is None:
            raise BadCredentialsError
        key_id, secret = parts
        known = await self._look_up(key_id)
        key = known.key
        if key is None or not is_genuine(key, secret, self._peppers) or key.revoked_ms:
            raise BadCredentialsError
        if key.is_expired(int(time.time() * 1000)):
            raise ExpiredCredentialsError
        self._note_use(known, key_id)
        scopes = frozenset(scope for scope in Scope if scope.value in key.scopes)
        return Identity(key.tenant, scopes, f"key:{key_id}")

    async def close(self) -> None:
        """Wait for what is being noted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_up(self, key_id: str) -> _Known:
        now = self._clock()
        known = self._known.get(key_id)
        if known is not None and now - known.at < self._cache_seconds:
            return known
        # Shielded: inside redis-py a cancellation can get lost.
        found = _Known(await asyncio.shield(self._source.find(key_id)), now)
        if known is not None:
            found.used_at = known.used_at
        self._known[key_id] = found
        self._known.move_to_end(key_id)
        while len(self._known) > _MOST_KEYS:
            self._known.popitem(last=False)
        return found

    def _note_use(self, known: _Known, key_id: str) -> None:
        """Now and then, beside the call."""
        now = self._clock()
        if now - known.used_at < _USE_SECONDS:
            return
        known.used_at = now
        task = asyncio.create_task(self._noted(key_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _noted(self, key_id: str) -> None:
        try:
            await self._source.note_use(key_id)
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("could not note the use of %s: %s", key_id, type(error).__name__)
