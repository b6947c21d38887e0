"""API keys: who is known by them, until when, and what Redis could not change."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest

from miao_queue.key_ring import KeyRing
from miao_service.auth import api_keys
from miao_service.auth.api_key_verifier import ApiKeyVerifier
from miao_service.auth.api_keys import ApiKey
from miao_service.auth.authenticator import Credentials
from miao_service.auth.identity import ALL_SCOPES, Identity, Scope
from miao_service.errors import BadCredentialsError, ExpiredCredentialsError

PEPPERS = KeyRing({"p2": b"2" * 32, "p1": b"1" * 32})
SECRET = "s" * 52
KEY_ID = "abcdefgh2345"
TEXT = f"miao_{KEY_ID}_{SECRET}"


def key(**changes: Any) -> ApiKey:
    """A genuine key, then changed as somebody could who writes to Redis."""
    made = ApiKey(
        key_id=KEY_ID,
        tenant="ann",
        scopes=frozenset({"infer", "read"}),
        pepper_id="p1",
        mac="",
        label="",
        created_ms=1,
        expires_ms=int(time.time() * 1000) + 3_600_000,
    )
    made = dataclasses.replace(made, mac=api_keys._mac(made, SECRET, PEPPERS))
    return dataclasses.replace(made, **changes)


class Source:
    """Keys in memory, and what was asked of them."""

    def __init__(self, *found: ApiKey) -> None:
        self.keys = {made.key_id: made for made in found}
        self.lookups: list[str] = []
        self.uses: list[str] = []

    async def find(self, key_id: str) -> ApiKey | None:
        self.lookups.append(key_id)
        return self.keys.get(key_id)

    async def note_use(self, key_id: str) -> None:
        self.uses.append(key_id)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def verifier(source: Source, clock: Any = time.monotonic) -> ApiKeyVerifier:
    return ApiKeyVerifier(source, PEPPERS, cache_seconds=5.0, clock=clock)


async def test_a_key_names_tenant_scopes_and_itself() -> None:
    identity = await verifier(Source(key())).verify(Credentials(TEXT))
    scopes = frozenset({Scope.INFER, Scope.READ})
    assert identity == Identity("ann", scopes, f"key:{KEY_ID}")
    assert SECRET not in repr(identity)


async def test_what_is_no_api_key_is_left_to_others() -> None:
    source = Source(key())
    assert await verifier(source).verify(Credentials()) is None
    assert await verifier(source).verify(Credentials("a.b.c")) is None
    assert not source.lookups


@pytest.mark.parametrize(
    "changes",
    [
        {"tenant": "bob"},
        {"scopes": frozenset(ALL_SCOPES)},
        {"expires_ms": 0},
        {"pepper_id": "p2"},
        {"pepper_id": "p3"},
        {"mac": ""},
        {"revoked_ms": 5},
    ],
)
async def test_a_key_that_redis_has_changed_or_that_is_revoked_is_refused(changes: Any) -> None:
    with pytest.raises(BadCredentialsError, match="the credentials are not valid"):
        await verifier(Source(key(**changes))).verify(Credentials(TEXT))


@pytest.mark.parametrize(
    "text",
    [
        f"miao_{KEY_ID}_{'t' * 52}",
        f"miao_{KEY_ID}_{SECRET[:-1]}",
        f"miao_{KEY_ID}_{SECRET}x",
        f"miao_{KEY_ID.upper()}_{SECRET}",
        f"miao_zzzzzzzzzzzz_{SECRET}",
        "miao_",
    ],
)
async def test_a_wrong_key_is_refused_in_the_same_words(text: str) -> None:
    with pytest.raises(BadCredentialsError) as caught:
        await verifier(Source(key())).verify(Credentials(text))
    assert (caught.value.message, caught.value.reason) == (
        "the credentials are not valid",
        "BAD_CREDENTIALS",
    )


async def test_an_expired_key_is_said_to_be_so_to_who_has_its_secret_alone() -> None:
    made = dataclasses.replace(key(), expires_ms=1)
    made = dataclasses.replace(made, mac=api_keys._mac(made, SECRET, PEPPERS))
    with pytest.raises(ExpiredCredentialsError):
        await verifier(Source(made)).verify(Credentials(TEXT))
    with pytest.raises(BadCredentialsError) as caught:
        await verifier(Source(made)).verify(Credentials(f"miao_{KEY_ID}_{'t' * 52}"))
    assert not isinstance(caught.value, ExpiredCredentialsError)


async def test_a_revoked_key_is_refused_as_soon_as_the_cache_allows_and_no_later() -> None:
    source, clock = Source(key()), Clock()
    by_key = verifier(source, clock)
    assert await by_key.verify(Credentials(TEXT))
    source.keys[KEY_ID] = key(revoked_ms=1)
    clock.now += 4.9
    assert await by_key.verify(Credentials(TEXT))
    assert len(source.lookups) == 1
    clock.now += 0.1
    with pytest.raises(BadCredentialsError):
        await by_key.verify(Credentials(TEXT))
    assert len(source.lookups) == 2


async def test_unknown_ids_are_looked_up_once_and_do_not_pile_up(monkeypatch: Any) -> None:
    monkeypatch.setattr("miao_service.auth.api_key_verifier._MOST_KEYS", 3)
    source = Source()
    by_key = verifier(source, Clock())
    for number in [2, 2, 3, 4, 5, 6]:
        with pytest.raises(BadCredentialsError):
            await by_key.verify(Credentials(f"miao_{'a' * 11}{number}_{SECRET}"))
    assert len(source.lookups) == 5
    assert len(by_key._known) == 3


async def test_a_keys_use_is_noted_once_a_minute() -> None:
    source, clock = Source(key()), Clock()
    by_key = verifier(source, clock)
    for _ in range(13):
        await by_key.verify(Credentials(TEXT))
        clock.now += 5.0
    await by_key.close()
    assert source.uses == [KEY_ID, KEY_ID]
