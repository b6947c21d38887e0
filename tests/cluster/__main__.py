"""`python -m tests.cluster`: everything that happens to a cluster, on this machine.

Makes a network of namespaces; nothing of it is left. Exit status 1 says that a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
from functools import partial
from pathlib import Path

from ..chaos import command
from ..chaos.process import ForkedProcess, Process
from . import driver
from .driver import ClusterSettings
from .failures import ClusterKind
from .network import in_own_namespace


def main() -> int:
    arguments = _parser().parse_args()
    if not arguments.inside:
        again = [sys.executable, "-m", "tests.cluster", "--inside", *sys.argv[1:]]
        words = in_own_namespace(again)
        os.execvp(words[0], words)

    def play(seed: int, folder: Path) -> list[str]:
        settings = ClusterSettings(
            seed=seed,
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
        return outcome.violations

    return command.run("cluster", arguments, play)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("cluster", __doc__, callers=12, specs=16)
    option = parser.add_argument
    option("--kinds", type=ClusterKind, nargs="+", help="what happens, in order; unset: all")
    option("--tokens", type=int, default=600, help="the most tokens of one generation")
    option("--pause", type=float, default=5.0, help="seconds before each of them")
    option("--fork", action="store_true", help="fork workers from a process with their libraries")
    option("--output", type=Path, help="for the table as JSON")
    option("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
