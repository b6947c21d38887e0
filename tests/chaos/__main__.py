"""`python -m tests.chaos`: the long run. Exit status 1 says that a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import SystemRandom

from . import driver
from .driver import ChaosSettings
from .schedule import SAFE_KINDS, Kind


def main() -> int:
    arguments = _parser().parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="miao-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    settings = ChaosSettings(
        seed=arguments.seed if arguments.seed is not None else SystemRandom().randrange(1 << 31),
        seconds=arguments.minutes * 60,
        folder=folder,
        num_callers=arguments.callers,
        num_specs=arguments.specs,
        kinds=arguments.kinds or SAFE_KINDS,
        say=partial(print, flush=True),
    )
    outcome = asyncio.run(driver.run(settings))
    print(f"\n{outcome.report}")
    if outcome.violations:
        print(f"\nlogs are kept in {folder}")
        return 1
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--minutes", type=float, default=10.0, help="how long things fail")
    option("--seed", type=int, help="of failures and callers; unset: another each time")
    option("--callers", type=int, default=24, help="generations at once")
    option("--specs", type=int, default=48, help="different generations to ask for")
    option("--kinds", type=Kind, nargs="+", choices=list(Kind), help="unset: all but redis-loss")
    option("--folder", type=Path, help="for logs and data; unset: one of its own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
