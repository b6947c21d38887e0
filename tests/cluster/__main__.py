"""`python -m tests.cluster`: everything that happens to a cluster, on this machine.

Makes a network of namespaces; nothing of it is left. Exit status 1 says that a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import SystemRandom

from ..chaos.process import ForkedProcess, Process
from . import driver
from .driver import ClusterSettings
from .failures import ClusterKind
from .network import in_own_namespace


def main() -> int:
    arguments = _parser().parse_args()
    if not arguments.inside:
        command = [sys.executable, "-m", "tests.cluster", "--inside", *sys.argv[1:]]
        words = in_own_namespace(command)
        os.execvp(words[0], words)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="miao-cluster-"))
    folder.mkdir(parents=True, exist_ok=True)
    settings = ClusterSettings(
        seed=arguments.seed if arguments.seed is not None else SystemRandom().randrange(1 << 31),
        folder=folder,
        kinds=arguments.kinds or tuple(ClusterKind),
        num_callers=arguments.callers,
        num_specs=arguments.specs,
        most_tokens=arguments.tokens,
        pause_seconds=arguments.pause,
        worker_kind=ForkedProcess if arguments.fork else Process,
        say=partial(print, flush=True),
    )
    outcome = asyncio.run(driver.run(settings))
    print(f"\n{outcome.report}")
    if arguments.output:
        said = {
            "seed": settings.seed,
            "callers": settings.num_callers,
            "violations": outcome.violations,
            "rows": [dataclasses.asdict(row) for row in outcome.rows],
        }
        arguments.output.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
    if outcome.violations:
        print(f"\nlogs are kept in {folder}")
        return 1
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--kinds", type=ClusterKind, nargs="+", help="what happens, in order; unset: all")
    option("--seed", type=int, help="of what callers ask; unset: another each time")
    option("--callers", type=int, default=12, help="generations at once")
    option("--specs", type=int, default=16, help="different generations to ask for")
    option("--tokens", type=int, default=600, help="the most tokens of one generation")
    option("--pause", type=float, default=5.0, help="seconds before each of them")
    option("--fork", action="store_true", help="fork workers from a process with their libraries")
    option("--folder", type=Path, help="for logs and data; unset: one of its own")
    option("--output", type=Path, help="for the table as JSON")
    option("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
