"""The long runs on the command line: a seed, callers, a folder kept where a promise was broken."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import SystemRandom


def parser(name: str, description: str | None, callers: int, specs: int) -> argparse.ArgumentParser:
    """The options of all of them; `callers` and `specs` where nobody says otherwise."""
    made = argparse.ArgumentParser(
        prog=f"python -m tests.{name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = made.add_argument
    option("--seed", type=int, help="of failures and callers; unset: another each time")
    option("--callers", type=int, default=callers, help="generations at once")
    option("--specs", type=int, default=specs, help="different generations to ask for")
    option("--folder", type=Path, help="for logs and data; unset: one of its own")
    return made


def run(name: str, arguments: argparse.Namespace, play: Callable[[int, Path], list[str]]) -> int:
    """The exit status. `play` takes the seed and the folder, and returns what was violated."""
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix=f"miao-{name}-"))
    folder.mkdir(parents=True, exist_ok=True)
    seed = arguments.seed if arguments.seed is not None else SystemRandom().randrange(1 << 31)
    if play(seed, folder):
        print(f"\nlogs are kept in {folder}")
        return 1
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0
