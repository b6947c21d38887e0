"""`python -m tests.compatibility`: this version and the one before it in one fleet, under chaos.

Exit status 1 says that a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path

from ..chaos import command
from . import baseline, driver
from .driver import MixedSettings


def main() -> int:
    arguments = _parser().parse_args()

    def play(seed: int, folder: Path) -> list[str]:
        settings = MixedSettings(
            seed=seed,
            seconds=arguments.minutes * 60,
            folder=folder,
            previous=arguments.previous or baseline.read().commit,
            num_callers=arguments.callers,
            num_specs=arguments.specs,
            say=partial(print, flush=True),
        )
        outcome, takeovers = asyncio.run(driver.run(settings))
        print(f"\n{outcome.report}\n\ntakeovers by version, from and to:")
        for (one, other), count in sorted(takeovers.items()):
            print(f"  {one:8} -> {other:8} {count}")
        return outcome.violations

    return command.run("mixed", arguments, play)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("compatibility", __doc__, callers=12, specs=16)
    option = parser.add_argument
    option("--previous", help="a commit of the other version; unset: the recorded one")
    option("--minutes", type=float, default=2.0, help="how long things fail")
    return parser


if __name__ == "__main__":
    sys.exit(main())
