"""From a call to its caller: the one place through which every call comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from miao_service.auth.identity import ANYONE, Identity, Scope
from miao_service.errors import (
    BadCredentialsError,
    MissingScopeError,
    NoCredentialsError,
)

_AUTHORIZATION = "authorization"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows.

    bearer: the token of its `authorization: Bearer` metadata; empty if it has none.
    peer: what TLS has verified of its certificate, by gRPC's names of the properties.
    """

    bearer: str = ""
    peer: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Any) -> Credentials:
        """Read a gRPC call's; BadCredentialsError for metadata that holds no token."""
        return cls(_bearer(context.invocation_metadata() or ()), context.auth_context())


class Verifier(Protocol):
    """Knows one kind of credentials."""

    async def verify(self, credentials: Credentials) -> Identity | None:
        """Who shows them; None where they are of another kind.

        BadCredentialsError where they are of this kind, and wrong.
        """


class Authenticator:
    """Asks verifiers in turn. Without any, everybody is the default tenant."""

    def __init__(self, verifiers: Sequence[Verifier] = ()) -> None:
        self._verifiers = tuple(verifiers)

    @property
    def is_on(self) -> bool:
        """Whether callers must show anything."""
        return bool(self._verifiers)

    async def identify(self, context: Any) -> Identity:
        """Who makes a gRPC call; NoCredentialsError or BadCredentialsError for nobody known."""
        if not self._verifiers:
            return ANYONE
        credentials = Credentials.of(context)
        for verifier in self._verifiers:
            identity = await verifier.verify(credentials)
            if identity is not None:
                return identity
        raise BadCredentialsError if credentials.bearer else NoCredentialsError


def require(identity: Identity, scope: Scope) -> None:
    """MissingScopeError for a caller who may not make calls that need this scope."""
    if scope not in identity.scopes:
        raise MissingScopeError(scope)


def _bearer(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    values = [value for key, value in metadata if key == _AUTHORIZATION]
    if not values:
        return ""
    value = values[0]
    if len(values) > 1 or isinstance(value, bytes) or not value.lower().startswith(_BEARER):
        raise BadCredentialsError
    token = value[len(_BEARER) :].strip()
    if not token:
        raise BadCredentialsError
    return token
