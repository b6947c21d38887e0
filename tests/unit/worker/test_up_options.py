"""What `miao up` starts for which options."""

from __future__ import annotations

import pytest

from miao_worker import cli, up
from miao_worker.stack import StackSettings


def settings(*options: str) -> StackSettings:
    return up._settings(up._parser().parse_args(options))


def test_each_model_gets_a_worker_with_the_common_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIAO_MODEL", "not/this")
    found = settings("--model", "a", "--model", "b", "--worker-option=--dtype=float32")
    assert list(found.worker_options) == ["--model", "a", "--dtype=float32"]
    assert [list(each) for each in found.more_workers] == [["--model", "b", "--dtype=float32"]]


def test_without_a_model_it_is_the_environments_or_the_bundled_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIAO_MODEL", "some/model")
    assert list(settings().worker_options) == ["--model", "some/model"]
    monkeypatch.delenv("MIAO_MODEL")
    assert list(settings().worker_options) == []
    assert list(settings().more_workers) == []


def test_the_ranks_of_a_model_are_the_workers_affair() -> None:
    assert list(settings("--model", "a", "--tensor-parallel-size", "2").worker_options) == [
        "--model",
        "a",
        "--tensor-parallel-size",
        "2",
    ]
    options = ["--model", "a", "--tensor-parallel-size", "2"]
    assert cli._settings(cli._parser().parse_args(options)).engine.tensor_parallel_size == 2
    assert cli._settings(cli._parser().parse_args([])).engine.tensor_parallel_size == 1
