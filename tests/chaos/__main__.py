"""`python -m tests.chaos`: the long run. Exit status 1 says that a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path

from . import command, driver
from .driver import ChaosSettings
from .schedule import SAFE_KINDS, Kind


def main() -> int:
    arguments = _parser().parse_args()

    def play(seed: int, folder: Path) -> list[str]:
        settings = ChaosSettings(
            seed=seed,
            seconds=arguments.minutes * 60,
            folder=folder,
            num_callers=arguments.callers,
            num_specs=arguments.specs,
            kinds=arguments.kinds or SAFE_KINDS,
            say=partial(print, flush=True),
        )
        outcome = asyncio.run(driver.run(settings))
        print(f"\n{outcome.report}")
        return outcome.violations

    return command.run("chaos", arguments, play)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("chaos", __doc__, callers=24, specs=48)
    option = parser.add_argument
    option("--minutes", type=float, default=10.0, help="how long things fail")
    option("--kinds", type=Kind, nargs="+", choices=list(Kind), help="unset: all but redis-loss")
    return parser


if __name__ == "__main__":
    sys.exit(main())
