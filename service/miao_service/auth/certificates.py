"""Callers that show a certificate, which TLS has verified: by their SPIFFE ids.

A file says whose they are: an id, or the beginning of ids with `/*` at its end; the
tenant; and scopes, if not all.

    spiffe://example.org/ns/shop/sa/checkout   shop
    spiffe://example.org/ns/search/*           search   infer,read

The longest line that fits counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from miao_service.auth.authenticator import Credentials
from miao_service.auth.identity import ALL_SCOPES, ANYONE, Identity, Scope, is_tenant
from miao_service.errors import BadCredentialsError

_PATTERN = re.compile(r"spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*(/\*)?")
_SPIFFE_ID = "peer_spiffe_id"  # gRPC's name: the only URI of the certificate, and one of SPIFFE
_TRANSPORT = "transport_security_type"
_SUBJECT = "x509_subject"


class SpiffeMapError(ValueError):
    """The file of SPIFFE ids cannot be used."""


@dataclass(frozen=True, slots=True)
class SpiffeMap:
    """Whose a SPIFFE id is: tenant and scopes by id, or by beginning that ends with a slash."""

    entries: Mapping[str, tuple[str, frozenset[Scope]]]

    @classmethod
    def read(cls, path: str) -> SpiffeMap:
        """Read the file; SpiffeMapError says which line is wrong."""
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SpiffeMapError(f"{path} cannot be read: {error}") from None
        entries = {}
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if words:
                pattern, entry = _parsed(words, f"line {number} of {path}")
                entries[pattern] = entry
        return cls(entries)

    def identity(self, spiffe_id: str) -> Identity | None:
        """Whose it is."""
        fitting = [
            pattern
            for pattern in self.entries
            if pattern == spiffe_id or (pattern.endswith("/") and spiffe_id.startswith(pattern))
        ]
        if not fitting:
            return None
        tenant, scopes = self.entries[max(fitting, key=len)]
        return Identity(tenant, scopes, spiffe_id)


class CertificateVerifier:
    """Knows callers by the certificates that TLS has verified."""

    def __init__(self, spiffe_map: SpiffeMap | None, besides_tokens: bool) -> None:
        """Make one.

        Args:
            spiffe_map: None where every certificate is the default tenant's.
            besides_tokens: whether tokens are looked at too; who shows one is not
                known by its certificate then.
        """
        self._map = spiffe_map
        self._besides_tokens = besides_tokens

    async def verify(self, credentials: Credentials) -> Identity | None:
        if self._besides_tokens and credentials.bearer:
            return None
        peer = credentials.peer
        if _SUBJECT not in peer or _TRANSPORT not in peer:
            return None
        spiffe_ids = peer.get(_SPIFFE_ID, ())
        if self._map is None:
            name = spiffe_ids[0] if spiffe_ids else peer[_SUBJECT][0]
            return Identity(ANYONE.tenant, ALL_SCOPES, f"certificate:{_text(name)}")
        identity = self._map.identity(_text(spiffe_ids[0])) if len(spiffe_ids) == 1 else None
        if identity is None:
            raise BadCredentialsError
        return identity


def _parsed(words: list[str], place: str) -> tuple[str, tuple[str, frozenset[Scope]]]:
    if len(words) not in (2, 3) or not _PATTERN.fullmatch(words[0]):
        raise SpiffeMapError(f"{place} must be a SPIFFE id, a tenant and perhaps scopes")
    pattern = words[0].removesuffix("*")
    if not is_tenant(words[1]):
        raise SpiffeMapError(f"{place}: {words[1]!r} cannot be a tenant's name")
    if len(words) == 2:
        return pattern, (words[1], ALL_SCOPES)
    try:
        return pattern, (words[1], frozenset(Scope(word) for word in words[2].split(",")))
    except ValueError:
        known = ", ".join(Scope)
        raise SpiffeMapError(f"{place}: scopes are some of {known}, with commas") from None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
