"""Who calls: the metadata that a client's calls carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from miao_client.errors import InvalidRequestError
from miao_client.tokens import AsyncTokenProvider, TokenProvider

# A key or bearer token, or what gives one before each call: a function at once, a provider
# from its cache.
ApiKey: TypeAlias = str | Callable[[], str] | TokenProvider
AsyncApiKey: TypeAlias = ApiKey | AsyncTokenProvider
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
OwnMetadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

AUTHORIZATION = "authorization"


class Shown(NamedTuple):
    """What a call carries, and the key among it."""

    metadata: OwnMetadata
    key: str | None


def bearer(api_key: str) -> tuple[str, str]:
    """The metadata that shows a key.

    Raises:
        InvalidRequestError: It is none that metadata can carry.
    """
    if not api_key or not all(" " < character <= "~" for character in api_key):
        raise InvalidRequestError.of("api_key", "must be visible ASCII characters")
    return AUTHORIZATION, f"Bearer {api_key}"


def shown(key: str | None, metadata: OwnMetadata) -> Shown:
    """What a call carries with this key, if there is one."""
    return Shown(metadata if key is None else (*metadata, bearer(key)), key)


def key_of(api_key: AsyncApiKey | None) -> str | None:
    """The key of this moment; a provider for threads may have to fetch it."""
    assert not isinstance(api_key, AsyncTokenProvider)
    if isinstance(api_key, TokenProvider):
        return api_key.token()
    return api_key() if callable(api_key) else api_key


def is_renewed(api_key: AsyncApiKey | None) -> bool:
    """Whether there may be another key at once, where this one was rejected."""
    return isinstance(api_key, TokenProvider | AsyncTokenProvider)


def reject(api_key: AsyncApiKey | None, key: str | None) -> None:
    """The service has not taken this key."""
    if key is not None and isinstance(api_key, TokenProvider | AsyncTokenProvider):
        api_key.reject(key)
