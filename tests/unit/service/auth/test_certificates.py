"""Callers with certificates: whose a SPIFFE id is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miao_service.auth.authenticator import Credentials
from miao_service.auth.certificates import CertificateVerifier, SpiffeMap, SpiffeMapError
from miao_service.auth.identity import ALL_SCOPES, Identity, Scope
from miao_service.errors import BadCredentialsError

FILE = """
# whose
spiffe://example.org/ns/shop/sa/checkout   shop
spiffe://example.org/ns/shop/*             others   infer,read
spiffe://example.org/*                     rest
"""


def spiffe_map(folder: Path, text: str = FILE) -> SpiffeMap:
    path = folder / "map"
    path.write_text(text, "utf-8")
    return SpiffeMap.read(str(path))


def peer(*spiffe_ids: str) -> Any:
    properties: dict[str, Any] = {
        "transport_security_type": [b"ssl"],
        "x509_subject": [b"CN=caller"],
        "x509_subject_alternative_name": [b"spiffe://example.org/ns/shop/sa/checkout"],
    }
    if spiffe_ids:
        properties["peer_spiffe_id"] = [text.encode() for text in spiffe_ids]
    return properties


@pytest.mark.parametrize(
    ("spiffe_id", "tenant", "scopes"),
    [
        ("spiffe://example.org/ns/shop/sa/checkout", "shop", ALL_SCOPES),
        ("spiffe://example.org/ns/shop/sa/check", "others", {Scope.INFER, Scope.READ}),
        ("spiffe://example.org/ns/shop/sa/checkout2", "others", {Scope.INFER, Scope.READ}),
        ("spiffe://example.org/ns/shopping", "rest", ALL_SCOPES),
    ],
)
async def test_the_longest_line_that_fits_says_whose_it_is(
    tmp_path: Path, spiffe_id: str, tenant: str, scopes: Any
) -> None:
    made = CertificateVerifier(spiffe_map(tmp_path), besides_tokens=False)
    identity = await made.verify(Credentials("", peer(spiffe_id)))
    assert identity == Identity(tenant, frozenset(scopes), spiffe_id)


@pytest.mark.parametrize(
    "shown",
    [
        peer("spiffe://example.com/ns/shop"),
        peer("spiffe://example.org.evil/ns"),
        peer(),  # a DNS name that looks like an id is none
        peer("spiffe://example.org/a", "spiffe://example.org/b"),
    ],
)
async def test_who_is_not_in_the_file_is_refused(tmp_path: Path, shown: Any) -> None:
    made = CertificateVerifier(spiffe_map(tmp_path), besides_tokens=False)
    with pytest.raises(BadCredentialsError):
        await made.verify(Credentials("", shown))


async def test_who_shows_a_token_is_not_known_by_its_certificate(tmp_path: Path) -> None:
    shown = Credentials("token", peer("spiffe://example.org/a"))
    besides = CertificateVerifier(spiffe_map(tmp_path), besides_tokens=True)
    assert await besides.verify(shown) is None
    alone = CertificateVerifier(spiffe_map(tmp_path), besides_tokens=False)
    assert await alone.verify(shown)


async def test_without_a_certificate_nobody_is_known(tmp_path: Path) -> None:
    made = CertificateVerifier(None, besides_tokens=False)
    assert await made.verify(Credentials("", {"transport_security_type": [b"ssl"]})) is None
    identity = await made.verify(Credentials("", peer()))
    assert identity == Identity("default", ALL_SCOPES, "certificate:CN=caller")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("https://example.org/a shop", "must be a SPIFFE id"),
        ("spiffe://example.org/a", "must be a SPIFFE id"),
        ("spiffe://* shop", "must be a SPIFFE id"),
        ("spiffe:///* shop", "must be a SPIFFE id"),
        ("spiffe://example.org/a sh:op", "cannot be a tenant's name"),
        ("spiffe://example.org/a shop read,write", "scopes are some of infer, read, models"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(SpiffeMapError, match=complaint):
        spiffe_map(tmp_path, line)
