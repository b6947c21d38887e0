"""Programs of another version, from the repository's history."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from ..chaos.process import Host

ROOT = Path(__file__).parents[2]
_ROOMS = ("proto", "client", "service", "worker")


class Checkout(Host):
    """Where programs of another version run: here, on a copy of its code.

    Compiled kernels are not among it: its engines use torch's operations. Raises LookupError
    where the history does not reach back so far, as in a shallow clone.
    """

    def __init__(self, commit: str, folder: Path) -> None:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", commit, *_ROOMS], capture_output=True, check=False
        )
        if archive.returncode:
            raise LookupError(f"no code of {commit[:12]} here: {archive.stderr.decode().strip()}")
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as code:
            code.extractall(folder, filter="data")
        self.folder = folder

    def command(self, command: Sequence[str]) -> list[str]:
        path = ":".join(str(self.folder / room) for room in _ROOMS)
        return [str(shutil.which("env")), f"PYTHONPATH={path}", *command]
