"""Type checkers content with a program outside of ours that uses the public names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [str(ROOT / name) for name in ("proto", "client")]
WRONG = "from miao_client import Client\nnumber: int = Client().models()\n"


def mypy(folder: Path, file: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", file]
    return run(command, folder, MYPYPATH=os.pathsep.join(SOURCES))


def pyright(folder: Path, file: str) -> subprocess.CompletedProcess[str]:
    settings = {"include": [file], "typeCheckingMode": "strict", "extraPaths": SOURCES}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return run([sys.executable, "-m", "pyright", "--pythonpath", sys.executable], folder)


def run(command: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | environ
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_users_program_is_typed_in_the_strictest_mode(tmp_path: Path, check: object) -> None:
    assert callable(check)
    shutil.copy(Path(__file__).with_name("outside.py"), tmp_path)
    done = check(tmp_path, "outside.py")
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "wrong.py").write_text(WRONG)
    done = check(tmp_path, "wrong.py")
    assert done.returncode == 1
    assert "tuple[Model, ...]" in done.stdout
