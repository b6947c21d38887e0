"""The public keys of those who issue tokens: a JWKS, from a file or an address."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from miao_service.errors import IssuerUnavailableError

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20
_FETCH_SECONDS = 5.0
_LOOK_SECONDS = 1.0  # between two looks at a file
_REFRESH_SECONDS = 300.0  # after which an address is asked again
_HURRY_SECONDS = 10.0  # the same for a key that is not known yet
_KEEP_SECONDS = 86400.0  # for which keys are used while their address does not answer
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class KeySetError(ValueError):
    """What was read is not a set of public keys."""


class KeySetSource:
    """Gives the keys of a JWKS, new where they have changed."""

    def __init__(
        self,
        place: str,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """KeySetError where the place cannot be one: https, http on this machine, or a file."""
        address = urlsplit(place)
        self._is_remote = address.scheme in ("http", "https")
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            raise KeySetError(f"keys must come over https, not from {place}")
        self._place = place
        self._fetch = fetch or (_fetch if self._is_remote else _read_file)
        self._clock = clock
        self._keys: KeySet | None = None
        self._read_at = float("-inf")  # when the keys in use came
        self._asked_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None
        self.version = 0  # grows when the keys change

    async def keys(self) -> KeySet:
        """The keys; IssuerUnavailableError where there are none, or they are too old."""
        age = self._clock() - self._asked_at
        if self._keys is None:
            if age > _LOOK_SECONDS or self._refreshing is not None:
                await self._refresh()
        elif age > (_REFRESH_SECONDS if self._is_remote else _LOOK_SECONDS):
            refreshing = self._refresh()
            if not self._is_remote:
                await refreshing
        if self._keys is None or self._clock() - self._read_at > _KEEP_SECONDS:
            raise IssuerUnavailableError
        return self._keys

    async def keys_with(self, key_id: str) -> KeySet:
        """The same, read anew if the one of this id is not among them, but not too often."""
        keys = await self.keys()
        if any(key.kid == key_id for key in keys):
            return keys
        if self._clock() - self._asked_at > (_HURRY_SECONDS if self._is_remote else _LOOK_SECONDS):
            await self._refresh()
        return await self.keys()

    async def close(self) -> None:
        """Wait for what is being read."""
        if self._refreshing is not None:
            await asyncio.wait([self._refreshing])

    def _refresh(self) -> asyncio.Future[None]:
        """Read the keys; several callers share one reading."""
        if self._refreshing is None:
            self._asked_at = self._clock()
            self._refreshing = asyncio.create_task(self._read())
        return asyncio.shield(self._refreshing)

    async def _read(self) -> None:
        try:
            payload = await asyncio.to_thread(self._fetch, self._place)
            keys = parse(payload)
        except (OSError, HTTPException, KeySetError) as error:
            logger.error("the keys at %s cannot be read: %s", self._place, _reason(error))
            return
        finally:
            self._refreshing = None
        self._read_at = self._clock()
        if self._keys is None or keys.as_dict() != self._keys.as_dict():
            self._keys = keys
            self.version += 1


def parse(payload: bytes) -> KeySet:
    """Read a JWKS; KeySetError if it is none, or holds a secret."""
    try:
        content = json.loads(payload)
        found: list[dict[str, Any]] = content["keys"]
        if any(key.get("kty") == "oct" or "d" in key for key in found):
            raise KeySetError("it must hold public keys alone")
        return KeySet.import_key_set({"keys": found})
    except KeySetError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, JoseError):
        raise KeySetError("it is not a JWKS") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the operator said, or not at all."""

    def redirect_request(self, *_: Any) -> NoReturn:
        raise OSError("the address leads elsewhere")


def _fetch(address: str) -> bytes:
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(address, timeout=_FETCH_SECONDS) as response:
        payload: bytes = response.read(_MOST_BYTES + 1)
    if len(payload) > _MOST_BYTES:
        raise KeySetError("it is too long")
    return payload


def _read_file(path: str) -> bytes:
    return Path(path.removeprefix("file://")).read_bytes()


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, KeySetError) else type(error).__name__
