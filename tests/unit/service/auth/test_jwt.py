"""JSON Web Tokens: which are taken, and where their keys come from."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from miao_service.auth.authenticator import Credentials
from miao_service.auth.identity import ALL_SCOPES, Identity, Scope
from miao_service.auth.jwt_verifier import JwtRules, JwtVerifier
from miao_service.auth.key_sets import KeySetError, KeySetSource, parse
from miao_service.errors import (
    BadCredentialsError,
    ExpiredCredentialsError,
    IssuerUnavailableError,
)

NOW = 1_800_000_000
KEY = ECKey.generate_key("P-256", {"kid": "one"})
OTHER = ECKey.generate_key("P-256", {"kid": "two"})
RULES = JwtRules(issuer="https://issuer", audience="miao", scope_claim="scope")


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def token(key: Any = KEY, header: Any = None, **changes: Any) -> str:
    claims = {
        "iss": "https://issuer",
        "aud": "miao",
        "sub": "svc-1",
        "exp": NOW + 60,
        "tenant": "ann",
        "scope": "openid miao:infer read",
    }
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode({"alg": "ES256", "kid": key.kid} | (header or {}), claims, key)


class Address:
    """What an address answers, and how often it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.answer: bytes | Exception = answer
        self.asked = 0

    def __call__(self, place: str) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    now = float(NOW)

    def __call__(self) -> float:
        return self.now


def verifier(answer: bytes | Address = b"", rules: JwtRules = RULES, clock: Any = None) -> Any:
    address = answer if isinstance(answer, Address) else Address(answer or jwks(KEY))
    made = clock or Clock()
    source = KeySetSource("https://issuer/keys", address, made)
    return JwtVerifier(source, rules, made)


async def test_a_token_names_tenant_scopes_and_its_subject() -> None:
    identity = await verifier().verify(Credentials(token()))
    assert identity == Identity("ann", frozenset({Scope.INFER, Scope.READ}), "jwt:svc-1")


@pytest.mark.parametrize(
    ("claims", "credential"),
    [
        ({"client_id": "batch"}, "jwt:svc-1"),
        ({"sub": None, "client_id": "batch", "azp": "portal"}, "jwt:batch"),
        ({"sub": " ", "azp": "portal"}, "jwt:portal"),
        ({"sub": None}, "jwt:somebody of https://issuer"),
        ({"sub": None, "client_id": 7}, "jwt:somebody of https://issuer"),
    ],
)
async def test_a_token_without_a_subject_is_called_by_its_client_or_its_issuer(
    claims: Any, credential: str
) -> None:
    identity = await verifier().verify(Credentials(token(**claims)))
    assert identity.credential == credential


async def test_other_credentials_are_left_to_others() -> None:
    assert await verifier().verify(Credentials()) is None
    assert await verifier().verify(Credentials("miao_a_b")) is None


@pytest.mark.parametrize(
    ("scope_claim", "claims", "scopes"),
    [
        ("", {}, ALL_SCOPES),
        ("scope", {"scope": None}, frozenset()),
        ("scope", {"scope": "openid"}, frozenset()),
        ("scope", {"scope": 7}, frozenset()),
        ("roles", {"roles": ["miao:models", 3]}, frozenset({Scope.MODELS})),
        ("realm.roles", {"realm": {"roles": ["read"]}}, frozenset({Scope.READ})),
    ],
)
async def test_scopes_come_from_the_claim_that_is_named(
    scope_claim: str, claims: Any, scopes: Any
) -> None:
    rules = JwtRules("https://issuer", "miao", scope_claim=scope_claim)
    identity = await verifier(rules=rules).verify(Credentials(token(**claims)))
    assert identity.scopes == scopes


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("org.id", {"org": {"id": "ann"}}),
        ("https://example.org/tenant", {"https://example.org/tenant": "ann"}),
    ],
)
async def test_the_tenant_comes_from_the_claim_that_is_named(path: str, claims: Any) -> None:
    rules = JwtRules("https://issuer", "miao", tenant_claim=path)
    identity = await verifier(rules=rules).verify(Credentials(token(tenant=None, **claims)))
    assert identity.tenant == "ann"


@pytest.mark.parametrize(
    "claims",
    [
        *({"iss": "https://another"}, {"iss": None}, {"iss": ["https://issuer"]}),
        *({"aud": "another"}, {"aud": None}, {"aud": ["a", "b"]}),
        *({"exp": None}, {"exp": "soon"}, {"nbf": NOW + 31}),
        *({"tenant": None}, {"tenant": 7}, {"tenant": ""}, {"tenant": "a:b"}, {"tenant": "a b"}),
        *({"tenant": "../x"}, {"tenant": ["ann"]}),
    ],
)
async def test_a_token_that_says_something_else_is_refused(claims: Any) -> None:
    with pytest.raises(BadCredentialsError) as caught:
        await verifier().verify(Credentials(token(**claims)))
    assert not isinstance(caught.value, ExpiredCredentialsError)


async def test_times_are_taken_with_leeway() -> None:
    await verifier().verify(Credentials(token(exp=NOW - 29, nbf=NOW + 29, aud=["x", "miao"])))
    with pytest.raises(ExpiredCredentialsError):
        await verifier().verify(Credentials(token(exp=NOW - 31)))


def by_hand(algorithm: str, claims: Any, secret: bytes | None) -> str:
    """A token that the library would not make."""
    parts = [json.dumps(part).encode() for part in ({"alg": algorithm, "kid": "one"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = b"" if secret is None else hmac.digest(secret, text, "sha256")
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


async def test_only_the_issuers_keys_and_the_allowed_algorithms_count() -> None:
    forged = ECKey.generate_key("P-256", {"kid": "one"})
    rsa = RSAKey.generate_key(2048, {"kid": "one"})
    claims = {"iss": "https://issuer", "aud": "miao", "exp": NOW + 60, "tenant": "ann"}
    unsigned = by_hand("none", claims, None)
    # The old trick: the key that everybody knows, taken as the secret of an HMAC.
    by_mac = by_hand("HS256", claims, KEY.as_pem(private=False))
    crossed = token(rsa, {"alg": "RS256"})
    changed = token().split(".")
    changed[1] = token(tenant="bob").split(".")[1]
    for text in (token(forged), unsigned, by_mac, crossed, ".".join(changed), "a.b.c", ".."):
        with pytest.raises(BadCredentialsError):
            await verifier().verify(Credentials(text))
    only_rsa = JwtRules("https://issuer", "miao", algorithms=("RS256",))
    with pytest.raises(BadCredentialsError):
        await verifier(rules=only_rsa).verify(Credentials(token()))


async def test_a_token_that_was_verified_is_not_verified_again_and_ends_in_time() -> None:
    clock = Clock()
    made = verifier(clock=clock)
    credentials = Credentials(token())
    first = await made.verify(credentials)
    made._checked = None  # would fail if it were called
    clock.now += 80
    assert await made.verify(credentials) is first
    del made._checked
    clock.now += 11  # 60 seconds and the leeway are over
    with pytest.raises(ExpiredCredentialsError):
        await made.verify(credentials)


async def test_new_keys_are_fetched_for_a_token_that_needs_them_but_not_for_every_one() -> None:
    clock, address = Clock(), Address(jwks(KEY))
    made = verifier(address, clock=clock)
    await made.verify(Credentials(token()))
    address.answer = jwks(OTHER)
    for _ in range(3):
        with pytest.raises(BadCredentialsError):
            await made.verify(Credentials(token(OTHER)))
    assert address.asked == 1
    clock.now += 11
    assert (await made.verify(Credentials(token(OTHER)))).tenant == "ann"
    assert address.asked == 2
    # The key that is no longer there takes its tokens with it, also those that were known.
    with pytest.raises(BadCredentialsError):
        await made.verify(Credentials(token()))


async def test_keys_serve_on_for_a_while_when_their_address_does_not_answer() -> None:
    clock, address = Clock(), Address(jwks(KEY))
    made = verifier(address, clock=clock)
    lasting = Credentials(token(exp=NOW + 200_000))
    await made.verify(lasting)
    address.answer = OSError("away")
    clock.now += 3600
    assert await made.verify(lasting)
    await made._source.close()
    assert address.asked == 2
    clock.now += 86400
    with pytest.raises(IssuerUnavailableError):
        await made.verify(lasting)
    await made._source.close()


async def test_without_keys_nobody_is_known_and_nobody_called_wrong() -> None:
    clock, address = Clock(), Address(b"no JWKS")
    made = verifier(address, clock=clock)
    for _ in range(3):
        with pytest.raises(IssuerUnavailableError):
            await made.verify(Credentials(token()))
    assert address.asked == 1
    address.answer = jwks(KEY)
    clock.now += 2
    callers = [made.verify(Credentials(token())) for _ in range(3)]
    assert len(await asyncio.gather(*callers)) == 3
    assert address.asked == 2


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": 7}', b'{"keys": [7]}'),
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        json.dumps({"keys": [KEY.as_dict(private=True)]}).encode(),
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(payload: bytes) -> None:
    with pytest.raises(KeySetError):
        parse(payload)


def test_keys_come_over_https_or_from_this_machine() -> None:
    with pytest.raises(KeySetError, match="https"):
        KeySetSource("http://issuer.example/keys")
    KeySetSource("http://127.0.0.1:8080/keys")


async def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    path.write_bytes(jwks(KEY))
    source = KeySetSource(str(path), clock=clock)
    assert [key.kid for key in await source.keys()] == ["one"]
    path.write_bytes(jwks(OTHER))
    clock.now += 1.1
    assert [key.kid for key in await source.keys()] == ["two"]
    assert source.version == 2
