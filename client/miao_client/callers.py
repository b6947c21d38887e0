"""Who calls: the metadata that a client's calls carry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from miao_client.errors import InvalidRequestError

# A key or bearer token, or what gives one before each call; awaited by the asynchronous client.
ApiKey: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]
Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

AUTHORIZATION = "authorization"


def bearer(api_key: str) -> tuple[str, str]:
    """The metadata that shows a key.

    Raises:
        InvalidRequestError: It is none that metadata can carry.
    """
    if not api_key or not all(" " < character <= "~" for character in api_key):
        raise InvalidRequestError.of("api_key", "must be visible ASCII characters")
    return AUTHORIZATION, f"Bearer {api_key}"


def shown(
    api_key: str | None, metadata: tuple[tuple[str, str | bytes], ...]
) -> tuple[tuple[str, str | bytes], ...]:
    """What a call carries, with the key if there is one."""
    return metadata if api_key is None else (*metadata, bearer(api_key))
