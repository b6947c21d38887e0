"""Settings come from arguments, else the environment, else the defaults."""

from __future__ import annotations

from typing import Any

import pytest

from miao_client import Client, InvalidRequestError
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
