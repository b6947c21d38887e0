"""The package as its users see it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import is_dataclass

import grpc
import pytest

import miao_client
from miao.v1 import generation_pb2 as pb
from miao_client import results
from miao_client.responses import finish_reason, generation_state

HEAVY = ["torch", "transformers", "redis", "rq", "typer", "rich", "click", "grpc_status"]
HEAVY += ["opentelemetry"]


def test_the_public_names_are_sorted_and_there() -> None:
    assert miao_client.__all__ == sorted(miao_client.__all__)
    for name in miao_client.__all__:
        assert hasattr(miao_client, name)


def test_every_error_is_public_and_in_one_tree() -> None:
    for name in miao_client.__all__:
        if name.endswith("Error"):
            error = getattr(miao_client, name)
            assert issubclass(error, miao_client.MiaoError)
            assert not issubclass(error, grpc.RpcError)
            assert name in (miao_client.errors.__doc__ or "")


def test_results_are_frozen() -> None:
    kinds = [kind for kind in vars(results).values() if is_dataclass(kind)]
    assert kinds
    assert all(kind.__dataclass_params__.frozen for kind in kinds)  # type: ignore[union-attr]


def test_importing_it_loads_nothing_heavy() -> None:
    program = f"import sys, miao_client; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_command_without_its_extra_says_which() -> None:
    program = (
        "import sys; sys.modules['typer'] = None\n"
        "from miao_client.cli import main; sys.exit(main([]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.strip() == "The miao command needs its extra: pip install 'miao[cli]'"


@pytest.mark.parametrize("number", pb.FinishReason.values())
def test_every_finish_reason_is_known(number: int) -> None:
    assert finish_reason(number).name == pb.FinishReason.Name(number).removeprefix("FINISH_REASON_")


@pytest.mark.parametrize("number", pb.GenerationState.values())
def test_every_state_is_known(number: int) -> None:
    name = pb.GenerationState.Name(number)
    assert generation_state(number).name == name.removeprefix("GENERATION_STATE_")


def test_numbers_of_a_later_version_are_unspecified() -> None:
    assert finish_reason(99) == "unspecified"
    assert generation_state(99) == "unspecified"
