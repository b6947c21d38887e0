"""Settings: arguments before environment before defaults, and one sentence for a bad one."""

from __future__ import annotations

from dataclasses import fields

import pytest

from miao_service.cli import main
from miao_service.ports import BindError, check_free
from miao_service.settings import ServiceSettings, SettingsError, parse_address


def test_arguments_win_over_the_environment_and_that_over_defaults() -> None:
    environ = {"MIAO_BACKLOG_LIMIT": "5", "MIAO_DRAIN_SECONDS": "1.5", "MIAO_REUSE_PORT": "yes"}
    settings = ServiceSettings.read(["--backlog-limit", "7", "--no-reuse-port"], environ)
    assert (settings.backlog_limit, settings.drain_seconds, settings.reuse_port) == (7, 1.5, False)
    assert settings.listen == "127.0.0.1:50051"


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"MIAO_PROCESSES": "0"}, "--processes must be at least 1, not 0"),
        ({"MIAO_BACKLOG_LIMIT": "many"}, "MIAO_BACKLOG_LIMIT must be a number, not 'many'"),
        ({"MIAO_QUEUE_WITHOUT_WORKER": "maybe"}, "MIAO_QUEUE_WITHOUT_WORKER must be yes or no"),
        ({"MIAO_LISTEN": "here"}, "--listen must be host:port, not 'here'"),
        ({"MIAO_LISTEN": "localhost:99999"}, "--listen must be host:port"),
        ({"MIAO_DURABILITY": "often"}, "--durability must be server, fsync, replica, not 'often'"),
        ({"REDIS_URL": "http://x"}, "the address of Redis must start with"),
    ],
)
def test_a_bad_setting_ends_with_one_sentence(
    environ: dict[str, str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_every_setting_has_an_environment_variable_of_its_own() -> None:
    names = [entry.metadata["env"] for entry in fields(ServiceSettings)]
    assert len(set(names)) == len(names)
    assert all(entry.metadata["help"] for entry in fields(ServiceSettings))


def test_addresses_may_be_of_version_six() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)
    with pytest.raises(SettingsError):
        parse_address(":80")


def test_an_address_that_is_not_of_this_machine_cannot_be_listened_on() -> None:
    with pytest.raises(BindError, match=r"cannot listen on 192\.0\.2\.1:0"):
        check_free("192.0.2.1:0")


def test_a_port_for_health_is_named_in_what_is_wrong_with_it() -> None:
    assert ServiceSettings.read([], {"MIAO_HEALTH_LISTEN": "[::]:50052"}).health_listen
    with pytest.raises(SettingsError, match="--health-listen must be PORT or HOST:PORT, not 'x'"):
        ServiceSettings(health_listen="x")
