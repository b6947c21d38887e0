"""Settings come from arguments, else the environment, else the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from miao_client import Client, InvalidRequestError
from miao_client import settings as settings_module
from miao_client.profile import KEYS
from miao_client.settings import Settings


def resolve(environ: dict[str, str] | None = None, **given: Any) -> Settings:
    arguments: dict[str, Any] = {
        "target": None,
        "model": None,
        "timeout": None,
        "call_timeout": 30.0,
        "connect_timeout": 5.0,
        "reconnect_timeout": 30.0,
        "wait_when_busy": 0.0,
    }
    return Settings.resolve(**(arguments | given), environ=environ or {})


def test_defaults() -> None:
    assert resolve() == Settings(targets=("localhost:50051",))


def test_the_environment_fills_what_no_argument_says() -> None:
    environ = {"MIAO_TARGET": "a:1,b:2", "MIAO_MODEL": "m", "MIAO_TIMEOUT": "2.5"}
    settings = resolve(environ)
    assert (settings.targets, settings.model, settings.timeout) == (("a:1", "b:2"), "m", 2.5)


def test_arguments_come_before_the_environment() -> None:
    environ = {"MIAO_TARGET": "a:1", "MIAO_MODEL": "m", "MIAO_TIMEOUT": "2.5"}
    settings = resolve(environ, target="c:3", model="n", timeout=1.0)
    assert (settings.targets, settings.model, settings.timeout) == (("c:3",), "n", 1.0)


@pytest.mark.parametrize(
    ("target", "targets"),
    [
        ("dns:///miao:50051", ("dns:///miao:50051",)),
        (" a:1 , b:2,", ("a:1", "b:2")),
        (["a:1", "b:2"], ("a:1", "b:2")),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", ("ipv4:127.0.0.1:1,127.0.0.1:2",)),
    ],
)
def test_targets_are_one_or_several(target: Any, targets: tuple[str, ...]) -> None:
    assert resolve(target=target).targets == targets


@pytest.mark.parametrize(
    ("environ", "given", "field"),
    [
        ({"MIAO_TIMEOUT": "soon"}, {}, "MIAO_TIMEOUT"),
        ({"MIAO_TIMEOUT": "-1"}, {}, "timeout"),
        ({}, {"timeout": 0}, "timeout"),
        ({}, {"call_timeout": 0}, "call_timeout"),
        ({}, {"connect_timeout": -1}, "connect_timeout"),
        ({}, {"reconnect_timeout": float("nan")}, "reconnect_timeout"),
        ({}, {"wait_when_busy": -1}, "wait_when_busy"),
        ({}, {"retry_budget": -1}, "retry_budget"),
        ({}, {"retry_ratio": -1}, "retry_ratio"),
        ({}, {"target": ""}, "target"),
        ({}, {"target": []}, "target"),
    ],
)
def test_settings_without_sense_are_refused(
    environ: dict[str, str], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(environ, **given)
    assert caught.value.violations[0].field == field


def test_a_call_gets_what_it_does_not_say_from_the_client() -> None:
    settings = resolve(model="m", timeout=3.0)
    assert settings.applied_to({"top_k": 0}) == {"top_k": 0, "model": "m", "timeout": 3.0}
    assert settings.applied_to({"model": "", "timeout": 1}) == {"model": "", "timeout": 1}


def test_a_client_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAO_TARGET", "elsewhere:1")
    with Client() as client:
        assert client.settings.targets == ("elsewhere:1",)


def test_the_profile_fills_what_the_environment_does_not_say(tmp_path: Path) -> None:
    file = tmp_path / "miao" / "config.toml"
    file.parent.mkdir()
    file.write_text('target = ["a:1", "b:2"]\nmodel = "m"\ntimeout = 2\nconnect_timeout = 9\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "MIAO_MODEL": "n", "MIAO_TIMEOUT": "3"}
    given = dict.fromkeys(("call_timeout", "connect_timeout"))
    settings = resolve(environ, timeout=4.0, **given)
    assert settings.targets == ("a:1", "b:2")  # the profile's
    assert settings.model == "n"  # the environment's before it
    assert settings.timeout == 4.0  # the argument's before both
    assert (settings.connect_timeout, settings.call_timeout) == (9.0, 30.0)
    assert resolve(environ | {"MIAO_PROFILE": ""}).targets == ("localhost:50051",)
    assert resolve({"MIAO_PROFILE": str(file)}).model == "m"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("target = ", "MIAO_PROFILE"),
        ('colour = "red"', "profile.colour"),
        ("model = {}", "profile.model"),
        ('timeout = "soon"', "MIAO_TIMEOUT"),
    ],
)
def test_a_profile_without_sense_is_refused(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "profile.toml"
    file.write_text(text)
    with pytest.raises(InvalidRequestError) as caught:
        resolve({"MIAO_PROFILE": str(file)})
    assert caught.value.violations[0].field == field


def test_a_profile_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        resolve({"MIAO_PROFILE": str(tmp_path / "missing.toml")})


@pytest.mark.parametrize(
    ("environ", "is_on"),
    [({}, True), ({"MIAO_HEALTH_CHECK": "false"}, False), ({"MIAO_HEALTH_CHECK": "true"}, True)],
)
def test_health_is_watched_unless_the_environment_says_no(
    environ: dict[str, str], is_on: bool
) -> None:
    assert resolve(environ).health_check is is_on


def test_the_environment_sets_the_retries() -> None:
    settings = resolve({"MIAO_RETRY_BUDGET": "7", "MIAO_RETRY_RATIO": "0.5"})
    assert (settings.retry_budget, settings.retry_ratio) == (7, 0.5)


def test_the_environment_sets_every_time() -> None:
    environ = {"MIAO_CONNECT_TIMEOUT": "1", "MIAO_RECONNECT_TIMEOUT": "2"}
    environ |= {"MIAO_WAIT_WHEN_BUSY": "3", "MIAO_CALL_TIMEOUT": "4"}
    names = ("connect_timeout", "reconnect_timeout", "wait_when_busy", "call_timeout")
    settings = resolve(environ, **dict.fromkeys(names))
    assert [getattr(settings, name) for name in names] == [1, 2, 3, 4]


def test_every_key_of_a_profile_is_a_variable_that_the_sdk_reads() -> None:
    sources = Path(settings_module.__file__).parent
    read = "".join((sources / name).read_text() for name in ("settings.py", "tls.py", "traces.py"))
    assert [key for key in KEYS if f'"MIAO_{key.upper()}"' not in read] == []
