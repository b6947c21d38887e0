"""API keys on every Redis of a fleet: made, listed and revoked at all of them."""

from __future__ import annotations

import asyncio
import builtins
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from miao_service.auth.api_keys import ApiKey, ApiKeyStore
from miao_service.auth.identity import Scope

_T = TypeVar("_T")


class KeyStores:
    """What `miao keys` works with. `silent`: those that did not answer, by name, and why."""

    def __init__(self, stores: Mapping[str, ApiKeyStore]) -> None:
        self._stores = stores
        self.silent: dict[str, str] = {}

    async def create(
        self, tenant: str, scopes: frozenset[Scope], lifetime_seconds: float | None, label: str
    ) -> tuple[ApiKey, str]:
        """As of `ApiKeyStore`, at all that answer; raises where the first does not."""
        first, *others = self._stores.values()
        key, text = await first.create(tenant, scopes, lifetime_seconds, label)
        state, ttl_ms = await first.raw(key.key_id)
        await self._ask(lambda store: store.put(key.key_id, state, ttl_ms), others)
        return key, text

    async def list(self, tenant: str | None = None) -> builtins.list[ApiKey]:
        """All keys that any knows of, the newest first; what each knows of one counts."""
        found: dict[str, builtins.list[ApiKey]] = {}
        for keys in await self._ask(lambda store: store.list(tenant)):
            for key in keys:
                found.setdefault(key.key_id, []).append(key)
        merged = map(merge, found.values())
        return sorted(merged, key=lambda key: key.created_ms, reverse=True)

    async def revoke(self, key_id: str) -> bool:
        """End a key for good, at all that answer; False if none of them knows it."""
        return any(await self._ask(lambda store: store.revoke(key_id)))

    async def sync(self) -> int:
        """Let each know what any knows; returns how many keys there are."""
        states: dict[str, builtins.list[tuple[dict[Any, Any], int]]] = {}
        for rows in await self._ask(_all_raw):
            for key_id, state, ttl_ms in rows:
                states.setdefault(key_id, []).append((state, ttl_ms))
        for key_id, known in states.items():
            state = {name: value for each, _ in known for name, value in each.items()}
            for name in (b"revoked_ms", b"used_ms"):
                if times := [int(each[name]) for each, _ in known if name in each]:
                    state[name] = max(times)
            # One that was revoked is forgotten sooner than it would have expired.
            ends = [ttl_ms for _, ttl_ms in known if ttl_ms > 0]
            ttl_ms = min(ends, default=-1)
            await self._ask(lambda store, k=key_id, s=state, t=ttl_ms: store.put(k, s, t))  # type: ignore[misc]
        return len(states)

    async def _ask(
        self,
        question: Callable[[ApiKeyStore], Awaitable[_T]],
        stores: Sequence[ApiKeyStore] | None = None,
    ) -> builtins.list[_T]:
        """What those say that answer; raises where none of all does."""
        asked = [(n, s) for n, s in self._stores.items() if stores is None or s in stores]
        replies = await asyncio.gather(*(question(s) for _, s in asked), return_exceptions=True)
        answers: builtins.list[_T] = []
        for (name, _), reply in zip(asked, replies, strict=True):
            if isinstance(reply, RedisError | OSError):
                self.silent[name] = str(reply)
                error = reply
            elif isinstance(reply, BaseException):
                raise reply
            else:
                answers.append(reply)
        if not answers and stores is None:
            raise error
        return answers


def merge(known: Sequence[ApiKey]) -> ApiKey:
    """What several know of one key: whether any knows that it was revoked, and its last use."""
    return dataclasses.replace(
        known[0],
        revoked_ms=max(key.revoked_ms for key in known),
        used_ms=max(key.used_ms for key in known),
    )


async def _all_raw(store: ApiKeyStore) -> list[tuple[str, dict[Any, Any], int]]:
    return [(key.key_id, *await store.raw(key.key_id)) for key in await store.list()]
