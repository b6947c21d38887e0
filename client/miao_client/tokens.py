"""Tokens that end: fetched when they are needed, kept until shortly before their end.

`TokenProvider` is for threads, `AsyncTokenProvider` for asyncio; a client takes either as its
`api_key`. However many calls need a token at once, one of them fetches it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from miao_client.deadline import Clock
from miao_client.errors import AuthenticationError

REFRESH_BEFORE_SECONDS = 60.0
_AGAIN_SECONDS = 1.0  # after a refresh that failed, while the token still holds
_SHARE = 0.2  # of a short token's life, in which it is refreshed


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token with its time.

    Attributes:
        value: The token itself, as it follows "Bearer ".
        lifetime: Seconds for which it holds from now on. None: what a JWT's own `exp` says,
            else until the service rejects it.
    """

    value: str = field(repr=False)
    lifetime: float | None = None


Fetched: TypeAlias = AccessToken | str


@dataclass(frozen=True, slots=True)
class _Held:
    value: str
    refresh_at: float
    ends_at: float


class _Cache:
    """The token that is held. Knows no locks and no I/O."""

    def __init__(self, refresh_before: float, clock: Clock) -> None:
        self._refresh_before = refresh_before
        self._clock = clock
        self._held: _Held | None = None

    def valid(self) -> str | None:
        """The token, while it holds."""
        held = self._held
        return held.value if held and self._clock() < held.ends_at else None

    def fresh(self) -> str | None:
        """The token, while it needs no refresh yet."""
        held = self._held
        return held.value if held and self._clock() < held.refresh_at else None

    def keep(self, fetched: Fetched) -> str:
        token = fetched if isinstance(fetched, AccessToken) else AccessToken(fetched)
        life = _seconds_of_jwt(token.value) if token.lifetime is None else token.lifetime
        if life is None:
            life = float("inf")
        now = self._clock()
        margin = min(self._refresh_before, life * _SHARE)
        self._held = _Held(token.value, now + life - margin, now + life)
        return token.value

    def postpone(self) -> None:
        """A refresh failed: go on with the token that is held for a moment."""
        if (held := self._held) is not None:
            self._held = _Held(held.value, self._clock() + _AGAIN_SECONDS, held.ends_at)

    def reject(self, token: str) -> None:
        """Forget this token; another one that came meanwhile stays."""
        if self._held is not None and self._held.value == token:
            self._held = None


class TokenProvider:
    """Gives a client's calls a token, which it fetches before they need it.

    Any number of threads and clients may share one. Shortly before the token ends, one call
    fetches the next while the others go on with the old one; without a token all wait for the
    one that fetches. A token that the service rejects is fetched anew, once. Under an
    `AsyncClient` it is fetched in a thread of its own.

    Args:
        fetch: Returns a token, as a string or an `AccessToken`. What it raises reaches the
            caller as the cause of an `AuthenticationError`.
        refresh_before: Seconds before the token's end; a fifth of its life where that is less.

    Example:
        >>> provider = TokenProvider(lambda: AccessToken(fetch_from_idp(), lifetime=3600))
        >>> client = Client("dns:///miao:50051", api_key=provider)
    """

    def __init__(
        self,
        fetch: Callable[[], Fetched],
        *,
        refresh_before: float = REFRESH_BEFORE_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._cache = _Cache(refresh_before, clock)
        self._fetching = threading.Lock()

    def token(self) -> str:
        """The token of this moment; waits where one has to be fetched.

        Raises:
            AuthenticationError: It could not be fetched.
        """
        if (token := self._cache.fresh()) is not None:
            return token
        valid = self._cache.valid()
        if not self._fetching.acquire(blocking=valid is None):
            assert valid is not None
            return valid  # another call fetches the next one
        try:
            return self._cache.fresh() or self._refreshed()
        finally:
            self._fetching.release()

    def held(self) -> str | None:
        """The token, if none has to be fetched."""
        return self._cache.fresh()

    def reject(self, token: str) -> None:
        """The service does not take this token."""
        self._cache.reject(token)

    def _refreshed(self) -> str:
        try:
            return self._cache.keep(self._fetch())
        except Exception as error:
            if (valid := self._cache.valid()) is None:
                raise _failed(error) from error
            self._cache.postpone()
            return valid


class AsyncTokenProvider:
    """The twin of `TokenProvider` for `AsyncClient`, whose `fetch` is awaited.

    Tasks of one event loop may share one. Shortly before the token ends it is refreshed in the
    background, and no call waits.

    Args:
        fetch: As for `TokenProvider`, asynchronous.
        refresh_before: As for `TokenProvider`.

    Example:
        >>> async def fetch() -> AccessToken:
        ...     return AccessToken(await fetch_from_idp(), lifetime=3600)
        >>> client = AsyncClient("dns:///miao:50051", api_key=AsyncTokenProvider(fetch))
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Fetched]],
        *,
        refresh_before: float = REFRESH_BEFORE_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._cache = _Cache(refresh_before, clock)
        self._fetching: asyncio.Task[str] | None = None

    async def token(self) -> str:
        """The token of this moment; waits where one has to be fetched.

        Raises:
            AuthenticationError: It could not be fetched.
        """
        if (token := self.held()) is not None:
            return token
        # Whoever gives up leaves the others' fetching alone.
        return await asyncio.shield(self._begin())

    def held(self) -> str | None:
        """The token, if a call need not wait for one; begins to refresh it where it is time."""
        if (token := self._cache.fresh()) is not None:
            return token
        if (token := self._cache.valid()) is not None:
            self._begin()
        return token

    def reject(self, token: str) -> None:
        """The service does not take this token."""
        self._cache.reject(token)

    def _begin(self) -> asyncio.Task[str]:
        loop = asyncio.get_running_loop()
        if self._fetching is None or self._fetching.get_loop() is not loop:
            self._fetching = loop.create_task(self._refreshed())
            self._fetching.add_done_callback(self._done)
        return self._fetching

    async def _refreshed(self) -> str:
        try:
            return self._cache.keep(await self._fetch())
        except Exception as error:
            if (valid := self._cache.valid()) is None:
                raise _failed(error) from error
            self._cache.postpone()
            return valid

    def _done(self, fetching: asyncio.Task[str]) -> None:
        self._fetching = None
        if not fetching.cancelled():
            fetching.exception()  # those who wait get it; nobody may


def _failed(error: Exception) -> AuthenticationError:
    return AuthenticationError(f"No token could be fetched: {type(error).__name__}.")


def _seconds_of_jwt(token: str) -> float | None:
    """For how long a JSON Web Token says that it holds; the service judges it, not we."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    if not isinstance(end, int | float) or isinstance(end, bool):
        return None
    return max(0.0, end - time.time())
