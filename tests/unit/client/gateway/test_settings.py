"""The gateway's settings."""

from __future__ import annotations

import pytest

from miao_client.gateway.command import main
from miao_client.gateway.settings import GatewaySettings, SettingsError


def test_arguments_come_before_the_environment() -> None:
    environ = {"MIAO_GATEWAY_LISTEN": "127.0.0.1:1", "MIAO_GATEWAY_LENIENT": "yes"}
    assert GatewaySettings.read([], environ).port == 1
    assert GatewaySettings.read([], environ).lenient
    assert GatewaySettings.read(["--listen", "[::1]:2"], environ).host == "::1"
    assert not GatewaySettings.read([], {}).lenient


@pytest.mark.parametrize("listen", ["8080", "here:", "127.0.0.1:99999"])
def test_an_address_has_a_host_and_a_port(listen: str) -> None:
    with pytest.raises(SettingsError, match="--listen"):
        GatewaySettings.read(["--listen", listen], {})


def test_keys_do_not_travel_in_plain_text_unless_told_so() -> None:
    with pytest.raises(SettingsError, match="--allow-plaintext"):
        GatewaySettings.read(["--listen", "0.0.0.0:80"], {})
    assert GatewaySettings.read(["--listen", "0.0.0.0:80", "--allow-plaintext"], {}).port == 80
    with pytest.raises(SettingsError, match="need each other"):
        GatewaySettings.read(["--tls-certificate", "file"], {})


def test_what_cannot_be_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["--listen", "127.0.0.1:0", "--tls-certificate", "/none", "--tls-key", "/none"]
    assert main(missing) == 1
    assert "certificate" in capsys.readouterr().err
    assert main(["--target", ","]) == 2
    assert "target" in capsys.readouterr().err
