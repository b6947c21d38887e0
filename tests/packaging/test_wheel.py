"""What is shipped: the built wheel, by itself, without the sources."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "redis", "rq", "typer", "rich", "tokenizers", "numpy"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        + ["--wheel-dir", str(folder), str(ROOT)],
        check=True,
    )
    (wheel,) = folder.glob("miao-*.whl")
    return wheel


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_beside(folder: Path, program: str) -> str:
    """Run a program that finds our packages in this folder alone."""
    prefix = (
        "import sys; sys.path = [p for p in sys.path if p not in SOURCES]; "
        "sys.meta_path = [f for f in sys.meta_path if 'ditable' not in type(f).__name__]; "
        "sys.path.insert(0, FOLDER)\n"
    )
    sources = [str(ROOT / name) for name in ("proto", "client", "service", "worker")]
    prefix = prefix.replace("SOURCES", repr(sources)).replace("FOLDER", repr(str(folder)))
    done = subprocess.run(
        [sys.executable, "-c", prefix + program], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_all_packages_and_the_model_within_its_size(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.compress_size for info in archive.infolist()}
    for name in (
        "miao/v1/generation.proto",
        "miao/v1/generation_pb2.pyi",
        "miao_client/py.typed",
        "miao_service/py.typed",
        "miao_queue/lua/claim.lua",
        "miao_worker/bundled/model.safetensors",
        "miao_worker/bundled/tokenizer.json",
        "miao_worker/bundled/MODEL_CARD.md",
    ):
        assert name in sizes
    assert not [name for name in sizes if name.startswith(("tests", "training", "benchmarks"))]
    bundled = sum(size for name, size in sizes.items() if "/bundled/" in name)
    assert bundled <= 8_000_000


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("miao_client", set()),
        # rich comes with structlog, which looks for it to show faults in a terminal.
        ("miao_service.server", {"redis", "rq", "tokenizers", "rich"}),
        ("miao_worker.batch_worker", {"redis", "rq", "tokenizers", "rich"}),
    ],
)
def test_imports_bring_only_what_they_need(unpacked: Path, package: str, allowed: set[str]) -> None:
    program = f"import json, sys, {package}; print(json.dumps([{package}.__file__, *sys.modules]))"
    file, *loaded = json.loads(run_beside(unpacked, program))
    assert Path(file).is_relative_to(unpacked)
    assert HEAVY & set(loaded) <= allowed


def test_the_wheel_says_its_version(unpacked: Path) -> None:
    program = "import miao_client; print(miao_client.__version__)"
    assert run_beside(unpacked, program).strip() == "0.1.0"
