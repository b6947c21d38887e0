"""TLS of a client: what its arguments and the environment ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.certificates import Authority

from miao_client import InvalidRequestError, Tls
from miao_client.tls import resolve


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    authority = Authority()
    certificate, key = authority.client(None).write(tmp_path, "client")
    (tmp_path / "roots").write_bytes(authority.pem)
    return {"roots": str(tmp_path / "roots"), "certificate": certificate, "key": key}


@pytest.mark.parametrize("asked", ["1", "yes", "TRUE", "on"])
def test_the_environment_can_ask_for_tls(asked: str) -> None:
    assert resolve(None, {"MIAO_TLS": asked}) == Tls()


@pytest.mark.parametrize("environ", [{}, {"MIAO_TLS": ""}, {"MIAO_TLS": "no"}])
def test_nothing_asked_for_is_a_plain_connection(environ: Any) -> None:
    assert resolve(None, environ) is None


def test_named_files_ask_for_it_too(files: dict[str, str]) -> None:
    environ = {
        "MIAO_TLS_ROOTS": files["roots"],
        "MIAO_CLIENT_CERTIFICATE": files["certificate"],
        "MIAO_CLIENT_KEY": files["key"],
    }
    assert resolve(None, environ) == Tls(**files)
    assert resolve(False, environ) is None
    assert resolve(True, {}) == Tls()
    mine = Tls(roots=files["roots"])
    assert resolve(mine, environ) is mine


def test_files_that_do_not_fit_are_named_at_once(files: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError, match="certificate and key together"):
        resolve(Tls(certificate=files["certificate"]), {})
    with pytest.raises(InvalidRequestError, match="/nowhere: No such file"):
        resolve(Tls(roots="/nowhere"), {})
