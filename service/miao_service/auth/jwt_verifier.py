"""Callers that show a JSON Web Token (RFC 7519), signed by somebody whom the operator trusts."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import JWSRegistry

from miao_service.auth.authenticator import Credentials
from miao_service.auth.identity import ALL_SCOPES, Identity, Scope, is_tenant
from miao_service.auth.key_sets import KeySetSource
from miao_service.errors import BadCredentialsError, ExpiredCredentialsError

# Signatures that need a private key. None of those is here with which whoever can
# check a token can make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519")

_MOST_TOKEN_CHARS = 8192
_MOST_TOKENS = 10_000  # that are remembered
_SCOPE_PREFIX = "miao:"
_HOLDER_CLAIMS = ("sub", "client_id", "azp")


@dataclass(frozen=True, slots=True)
class JwtRules:
    """What a token must say.

    algorithms: with which it may be signed; some of ALGORITHMS.
    tenant_claim: names its tenant; with dots, a claim within a claim.
    scope_claim: lists scopes, as words or a list, each perhaps behind "miao:". Empty:
        every token has all.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "Ed25519")
    tenant_claim: str = "tenant"
    scope_claim: str = ""
    leeway_seconds: int = 30


class JwtVerifier:
    """Knows callers by tokens. One that was verified is not verified again while it is valid."""

    def __init__(
        self, source: KeySetSource, rules: JwtRules, clock: Callable[[], float] = time.time
    ) -> None:
        self._source = source
        self._rules = rules
        self._clock = clock
        self._signatures = JWSRegistry(algorithms=rules.algorithms, strict_check_header=False)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=rules.leeway_seconds,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
        )
        self._verified: OrderedDict[bytes, tuple[Identity, float, int]] = OrderedDict()

    async def verify(self, credentials: Credentials) -> Identity | None:
        token = credentials.bearer
        if token.count(".") != 2:
            return None
        if len(token) > _MOST_TOKEN_CHARS:
            raise BadCredentialsError
        digest = hashlib.sha256(token.encode("ascii", "replace")).digest()
        known = self._verified.get(digest)
        if known is not None:
            identity, end, version = known
            if self._clock() < end and version == self._source.version:
                await self._source.keys()  # raises where they have become too old
                return identity
            del self._verified[digest]
        claims = await self._checked(token)
        identity = _identity(claims, self._rules)
        end = claims["exp"] + self._rules.leeway_seconds
        self._verified[digest] = identity, end, self._source.version
        while len(self._verified) > _MOST_TOKENS:
            self._verified.popitem(last=False)
        return identity

    async def _checked(self, token: str) -> dict[str, Any]:
        """A token's claims, once its signature and what they must say are checked."""
        try:
            key_id = jws.extract_compact(token.encode("ascii")).headers().get("kid")
        except (JoseError, ValueError):
            raise BadCredentialsError from None
        named = isinstance(key_id, str) and key_id
        keys = await (self._source.keys_with(str(key_id)) if named else self._source.keys())
        try:
            decoded = jwt.decode(token, keys, registry=self._signatures)
            self._claims.validate(decoded.claims)
        except ExpiredTokenError:
            raise ExpiredCredentialsError from None
        except (JoseError, ValueError, TypeError, OverflowError):
            raise BadCredentialsError from None
        return decoded.claims


def _identity(claims: Mapping[str, Any], rules: JwtRules) -> Identity:
    tenant = _claim(claims, rules.tenant_claim)
    if not isinstance(tenant, str) or not is_tenant(tenant):
        raise BadCredentialsError("the token names no tenant")
    return Identity(tenant, _scopes(claims, rules), f"jwt:{_holder(claims, rules)[:100]}")


def _holder(claims: Mapping[str, Any], rules: JwtRules) -> str:
    """What logs and audit call a token's holder; where it says nothing, whose token it is.

    A subject is not required (RFC 7519, 4.1.2), and issuers leave it out of a program's
    own token; the client's id stands there then (RFC 9068, 2.2).
    """
    for name in _HOLDER_CLAIMS:
        value = claims.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return f"somebody of {rules.issuer}"


def _scopes(claims: Mapping[str, Any], rules: JwtRules) -> frozenset[Scope]:
    if not rules.scope_claim:
        return ALL_SCOPES
    listed = _claim(claims, rules.scope_claim)
    words = listed.split() if isinstance(listed, str) else listed
    if not isinstance(words, list):
        return frozenset()
    names = {word.removeprefix(_SCOPE_PREFIX) for word in words if isinstance(word, str)}
    return frozenset(scope for scope in Scope if scope.value in names)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by a path of names with dots."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
