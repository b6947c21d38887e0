"""What a front refuses to start with."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tests.certificates import Authority

from miao_queue.key_ring import new_line
from miao_service.auth.access import Access
from miao_service.auth.api_keys import ApiKeyStore
from miao_service.settings import ServiceSettings, SettingsError

BEYOND = ["0.0.0.0:1", "[::]:1", "10.0.0.7:1", "example.org:1", "127.0.0.1.example.org:1"]
HERE = ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "localhost:1"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: Any) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("access")
    authority = Authority()
    certificate, key = authority.server().write(folder, "server")
    other, _ = Authority().server().write(folder, "other")
    (folder / "roots.pem").write_bytes(authority.pem)
    (folder / "peppers").write_text(new_line("p1"), "utf-8")
    (folder / "map").write_text("spiffe://example.org/* shop", "utf-8")
    names = {"roots": "roots.pem", "peppers": "peppers", "map": "map"}
    paths = {name: str(folder / file) for name, file in names.items()}
    return paths | {"certificate": certificate, "key": key, "other": other}


def access(**values: Any) -> Access:
    return Access(ServiceSettings(**values))


@pytest.mark.parametrize("listen", HERE)
async def test_on_this_machine_nothing_is_asked(listen: str) -> None:
    assert not access(listen=listen).authenticator(None).is_on  # type: ignore[arg-type]


@pytest.mark.parametrize("listen", BEYOND)
def test_beyond_it_a_front_wants_to_know_who_calls_and_to_speak_tls(
    listen: str, files: dict[str, str]
) -> None:
    tls = {"tls_certificate": files["certificate"], "tls_key": files["key"]}
    with pytest.raises(SettingsError, match="--allow-anonymous"):
        access(listen=listen)
    with pytest.raises(SettingsError, match="--allow-anonymous"):
        access(listen=listen, **tls)
    with pytest.raises(SettingsError, match="--allow-plaintext"):
        access(listen=listen, allow_anonymous=True)
    with pytest.raises(SettingsError, match="--allow-plaintext"):
        access(listen=listen, api_key_pepper=files["peppers"])
    with pytest.raises(SettingsError, match="--allow-anonymous"):
        access(listen=listen, allow_plaintext=True)


def test_what_was_said_in_words_is_warned_of(caplog: Any) -> None:
    made = access(listen="0.0.0.0:1", allow_anonymous=True, allow_plaintext=True)
    made.authenticator(None)  # type: ignore[arg-type]
    said = [record.message for record in caplog.records]
    assert said == [
        "listening beyond this machine, and anyone may call",
        "listening beyond this machine without TLS",
    ]


def test_each_way_to_know_callers_is_enough(files: dict[str, str], caplog: Any) -> None:
    tls = {"tls_certificate": files["certificate"], "tls_key": files["key"]}
    tokens = {"jwt_keys": "https://i/k", "jwt_issuer": "i", "jwt_audience": "a"}
    roots = {"tls_client_roots": files["roots"], "spiffe_tenants": files["map"]}
    for ways in ({"api_key_pepper": files["peppers"]}, tokens, roots):
        made = access(listen="0.0.0.0:1", **tls, **ways)
        assert made.authenticator(partial(ApiKeyStore, Redis())).is_on
    assert not caplog.records


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"tls_certificate": "certificate"}, "need each other"),
        ({"tls_key": "key"}, "need each other"),
        ({"tls_client_roots": "roots"}, "needs --tls-certificate"),
        ({"spiffe_tenants": "map"}, "needs --tls-client-roots"),
        ({"jwt_keys": "roots"}, "needs --jwt-issuer and --jwt-audience"),
        ({"api_key_pepper": "map"}, "must be an id and a key"),
        ({"tls_certificate": "key", "tls_key": "key"}, "holds no certificate"),
        ({"tls_certificate": "certificate", "tls_key": "roots"}, "holds no private key"),
        ({"tls_certificate": "other", "tls_key": "key"}, "is not that of"),
        (
            {"tls_certificate": "certificate", "tls_key": "key", "tls_client_roots": "peppers"},
            "holds no certificates",
        ),
        ({"tls_certificate": "nowhere", "tls_key": "key"}, "No such file"),
    ],
)
def test_files_that_do_not_fit_are_named(
    files: dict[str, str], values: dict[str, str], complaint: str
) -> None:
    paths = {name: files.get(file, "/nowhere") for name, file in values.items()}
    with pytest.raises(SettingsError, match=complaint):
        access(**paths)


@pytest.mark.parametrize("algorithms", ["", "none", "HS256", "RS256,HS256", "EdDSA"])
def test_algorithms_that_prove_nothing_cannot_be_allowed(algorithms: str) -> None:
    with pytest.raises(SettingsError, match="--jwt-algorithms"):
        access(jwt_keys="k", jwt_issuer="i", jwt_audience="a", jwt_algorithms=algorithms)
