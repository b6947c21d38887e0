"""Who calls: the metadata that a client's calls carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from miao_client.errors import InvalidRequestError

# A key or bearer token, or what gives one before each call, at once.
ApiKey: TypeAlias = str | Callable[[], str]
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
    api_key: ApiKey | None, metadata: tuple[tuple[str, str | bytes], ...]
) -> tuple[tuple[str, str | bytes], ...]:
    """What a call carries, with the key of this moment if there is one."""
    if api_key is None:
        return metadata
    return (*metadata, bearer(api_key() if callable(api_key) else api_key))
