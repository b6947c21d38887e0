"""Policies: the more special wins, errors name key and limit, a wrong file changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from miao_queue.limits import UNLIMITED, Limits
from miao_service.cli import main
from miao_service.policies import Policies, PoliciesError, PolicyFile

TEXT = """
[default]
requests_per_minute = 60
priorities = ["normal", "low"]
[default.models."large:lora"]
concurrent_generations = 4
request_tokens = 100
[tenants.acme]
requests_per_minute = 600
weight = 4
[tenants.acme.models."large:lora"]
request_tokens = 1000
"""


def test_the_more_special_wins_key_by_key() -> None:
    policies = Policies.parse(TEXT)
    few = ("normal", "low")
    assert policies.limits("bob", "m") == Limits(requests_per_minute=60, priorities=few)
    assert policies.limits("bob", "large:lora") == Limits(
        requests_per_minute=60, priorities=few, concurrent_generations=4, request_tokens=100
    )
    assert policies.limits("acme", "m") == Limits(
        requests_per_minute=600, priorities=few, weight=4.0
    )
    assert policies.limits("acme", "large:lora") == Limits(
        requests_per_minute=600,
        priorities=few,
        weight=4.0,
        concurrent_generations=4,
        request_tokens=1000,
    )


def test_a_tenant_keeps_its_computed_prompts_to_itself_where_its_policy_says_so() -> None:
    policies = Policies.parse("[tenants.acme]\nshare_prefix_cache = false")
    assert not policies.limits("acme", "m").share_prefix_cache
    assert policies.limits("bob", "m").share_prefix_cache


def test_without_a_file_nothing_is_limited() -> None:
    file = PolicyFile("")
    file.look()
    assert file.policies.limits("anyone", "m") is UNLIMITED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "is no TOML"),
        ("[defaults]", "defaults is not known; there are default, tenants"),
        ("default = 3", "default must be a table, not 3"),
        ("[default]\nrpm = 3", "default.rpm is not known; there are backlog, concurrent_"),
        ("[default]\nbacklog = 0", "default.backlog must be a whole number between 1 and"),
        ("[default]\nbacklog = true", "default.backlog must be a whole number"),
        ("[default]\nbacklog = 1.5", "default.backlog must be a whole number between 1 and 9"),
        ("[default]\nshare_prefix_cache = 0", "share_prefix_cache must be true or false, not 0"),
        ("[tenants.a]\nweight = 0", "tenants.a.weight must be a number between 0.001 and 1000"),
        ("[tenants.a]\nweight = nan", "tenants.a.weight must be a number between"),
        ("[tenants.a]\npriorities = []", "tenants.a.priorities must be a list of some of high"),
        ('[tenants.a]\npriorities = ["urgent"]', "tenants.a.priorities must be a list"),
        ('[tenants.a]\npriorities = "high"', "not 'high'"),
        ("[tenants.a.models]\nm = 3", "tenants.a.models.m must be a table"),
        ("[tenants.a.models.m]\nrpm = 3", "tenants.a.models.m.rpm is not known"),
        ('[tenants."a:b"]\nweight = 1', "tenants.a:b is no name of a tenant"),
    ],
)
def test_an_error_names_the_key_and_what_it_may_be(text: str, message: str) -> None:
    with pytest.raises(PoliciesError) as caught:
        Policies.parse(text)
    assert message in str(caught.value)


def test_a_changed_file_is_read_again_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "limits.toml"
    path.write_text("[default]\nbacklog = 5")
    file = PolicyFile(str(path))
    assert file.policies.limits("a", "m").backlog == 5
    path.write_text("[default]\nbacklog = 50")
    file.look()
    assert file.policies.limits("a", "m").backlog == 50
    path.write_text("[default]\nbacklog = -500")
    file.look()
    file.look()
    assert file.policies.limits("a", "m").backlog == 50
    assert caplog.text.count("the limits stay as they were") == 1
    assert "default.backlog must be a whole number between 1" in caplog.text
    path.unlink()
    file.look()
    assert file.policies.limits("a", "m").backlog == 50
    path.write_text("[default]\nbacklog = 7")
    file.look()
    assert file.policies.limits("a", "m").backlog == 7


def test_a_front_does_not_start_with_a_file_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[default]\nbacklog = 0")
    assert main(["--limits-file", str(path)]) == 2
    assert f"{path}: default.backlog must be" in capsys.readouterr().err
    assert main(["--limits-file", str(tmp_path / "none.toml")]) == 2
    assert "cannot be read: FileNotFoundError" in capsys.readouterr().err
