"""API keys: what a caller shows, and what Redis knows of it.

A key reads `miao_<id>_<secret>`. Redis holds no secret, only its HMAC under a pepper
that stands in a file outside of Redis. The HMAC covers tenant, scopes and expiry too:
who can write to Redis but has no pepper can neither make a key nor widen one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from miao_queue import keys, scripts
from miao_queue.audit import CREATE_API_KEY, REVOKE_API_KEY, AuditRecord
from miao_queue.key_ring import KeyRing
from miao_service.auth.identity import Scope

PREFIX = "miao_"
_FORM = re.compile(r"miao_([a-z2-7]{12})_([a-z2-7]{52})")
REMEMBER_SECONDS = 30 * 86400  # a key that has expired or was revoked, for the audit
_PURPOSE = "api-key"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as Redis knows it. Times are in milliseconds since 1970; 0 for never."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    pepper_id: str
    mac: str
    label: str
    created_ms: int
    expires_ms: int = 0
    revoked_ms: int = 0
    used_ms: int = 0

    @classmethod
    def from_hash(cls, key_id: str, state: Mapping[bytes, bytes]) -> ApiKey:
        """Read a key's hash; KeyError if it is not one."""
        texts = {name.decode(): value.decode() for name, value in state.items()}
        return cls(
            key_id=key_id,
            tenant=texts["tenant"],
            scopes=frozenset(texts["scopes"].split()),
            pepper_id=texts["pepper"],
            mac=texts["mac"],
            label=texts["label"],
            created_ms=int(texts["created_ms"]),
            expires_ms=int(texts["expires_ms"]),
            revoked_ms=int(texts.get("revoked_ms", 0)),
            used_ms=int(texts.get("used_ms", 0)),
        )

    def is_expired(self, now_ms: int) -> bool:
        return bool(self.expires_ms) and now_ms >= self.expires_ms


def split(text: str) -> tuple[str, str] | None:
    """Id and secret of a key; None for what has not a key's form."""
    found = _FORM.fullmatch(text)
    return None if found is None else (found[1], found[2])


def is_genuine(key: ApiKey, secret: str, peppers: KeyRing) -> bool:
    """Whether this is the key's secret, and the key what was made; takes the same time always."""
    if key.pepper_id not in peppers.keys:
        return False
    return hmac.compare_digest(key.mac, _mac(key, secret, peppers))


class ApiKeyStore:
    """The API keys in Redis. That one was made or revoked is in the audit, in the same step."""

    def __init__(
        self, connection: Redis, peppers: KeyRing, by: str = "", audit_entries: int = 0
    ) -> None:
        """`by`: who makes and revokes, for the audit, which keeps so many entries; 0: none."""
        self._by = by
        self._audit_entries = audit_entries
        self._redis: Any = connection  # its annotations mix what both kinds of client return
        self._peppers = peppers
        self._use = scripts.load_async(connection, "use_api_key")
        self._revoke = scripts.load_async(connection, "revoke_api_key")

    async def create(
        self,
        tenant: str,
        scopes: frozenset[Scope],
        lifetime_seconds: float | None,
        label: str,
    ) -> tuple[ApiKey, str]:
        """Make a key; returns it with the text that its user shows, which nobody can get again."""
        now_ms = _now_ms()
        secret = _random_text(33)[:52]
        expires_ms = 0 if lifetime_seconds is None else now_ms + int(1000 * lifetime_seconds)
        draft = ApiKey(
            key_id=_random_text(8)[:12],
            tenant=tenant,
            scopes=frozenset(scopes),
            pepper_id=self._peppers.current_id,
            mac="",
            label=label,
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
        mac = _mac(draft, secret, self._peppers)
        pipeline = self._redis.pipeline()
        pipeline.hset(
            keys.api_key(draft.key_id),
            mapping={
                "tenant": tenant,
                "scopes": _scope_text(draft),
                "pepper": draft.pepper_id,
                "mac": mac,
                "label": label,
                "created_ms": now_ms,
                "expires_ms": expires_ms,
            },
        )
        if expires_ms:
            pipeline.pexpireat(keys.api_key(draft.key_id), expires_ms + 1000 * REMEMBER_SECONDS)
        pipeline.sadd(keys.API_KEYS, draft.key_id)
        if self._audit_entries:
            made = AuditRecord(now_ms, tenant, self._by, CREATE_API_KEY, "OK", draft.key_id)
            kept = self._audit_entries
            pipeline.xadd(keys.AUDIT, made.fields(), maxlen=kept, approximate=True)
        await pipeline.execute()
        return draft, f"{PREFIX}{draft.key_id}_{secret}"

    async def find(self, key_id: str) -> ApiKey | None:
        """A key by its id."""
        state = await self._redis.hgetall(keys.api_key(key_id))
        return ApiKey.from_hash(key_id, state) if state else None

    async def list(self, tenant: str | None = None) -> list[ApiKey]:
        """All keys, or a tenant's, the newest first; forgets the ids of those that are gone."""
        members = [member.decode() for member in await self._redis.smembers(keys.API_KEYS)]
        pipeline = self._redis.pipeline(transaction=False)
        for member in members:
            pipeline.hgetall(keys.api_key(member))
        states = dict(zip(members, await pipeline.execute() if members else [], strict=True))
        gone = [member for member, state in states.items() if not state]
        if gone:
            await self._redis.srem(keys.API_KEYS, *gone)
        found = [ApiKey.from_hash(member, state) for member, state in states.items() if state]
        mine = [key for key in found if tenant is None or key.tenant == tenant]
        return sorted(mine, key=lambda key: key.created_ms, reverse=True)

    async def revoke(self, key_id: str) -> bool:
        """End a key for good; False if there is none of this id."""
        words = [_now_ms(), 1000 * REMEMBER_SECONDS, self._audit_entries]
        names = [self._by, REVOKE_API_KEY, key_id]
        return bool(await self._revoke(keys=[keys.api_key(key_id)], args=[*words, *names]))

    async def raw(self, key_id: str) -> tuple[dict[Any, Any], int]:
        """A key as it is stored, and for how long it still is, ms; below 0: for ever."""
        pipeline = self._redis.pipeline()
        pipeline.hgetall(keys.api_key(key_id))
        pipeline.pttl(keys.api_key(key_id))
        state, ttl_ms = await pipeline.execute()
        return state, ttl_ms

    async def put(self, key_id: str, state: Mapping[Any, Any], ttl_ms: int) -> None:
        """Store a key that was read from another Redis."""
        if not state:
            return
        pipeline = self._redis.pipeline()
        pipeline.hset(keys.api_key(key_id), mapping=dict(state))
        if ttl_ms > 0:
            pipeline.pexpire(keys.api_key(key_id), ttl_ms)
        pipeline.sadd(keys.API_KEYS, key_id)
        await pipeline.execute()

    async def note_use(self, key_id: str) -> None:
        """Keep that the key was used now."""
        await self._use(keys=[keys.api_key(key_id)], args=[_now_ms()])


def _mac(key: ApiKey, secret: str, peppers: KeyRing) -> str:
    parts = (key.key_id, secret, key.tenant, _scope_text(key), str(key.expires_ms))
    pepper = peppers.derive(key.pepper_id, _PURPOSE)
    return hmac.new(pepper, "\0".join(parts).encode(), hashlib.sha256).hexdigest()


def _scope_text(key: ApiKey) -> str:
    return " ".join(sorted(key.scopes))


def _random_text(num_bytes: int) -> str:
    return base64.b32encode(secrets.token_bytes(num_bytes)).decode().lower()


def _now_ms() -> int:
    return int(time.time() * 1000)
