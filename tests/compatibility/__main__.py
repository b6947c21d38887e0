"""`python -m tests.compatibility`: this version and the one before it in one fleet, under chaos.

Exit status 1 says that a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from random import SystemRandom

from . import baseline, driver
from .driver import MixedSettings


def main() -> int:
    arguments = _parser().parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="miao-mixed-"))
    folder.mkdir(parents=True, exist_ok=True)
    settings = MixedSettings(
        seed=arguments.seed if arguments.seed is not None else SystemRandom().randrange(1 << 31),
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
    if outcome.violations:
        print(f"\nlogs are kept in {folder}")
        return 1
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.compatibility",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--previous", help="a commit of the other version; unset: the recorded one")
    option("--minutes", type=float, default=2.0, help="how long things fail")
    option("--seed", type=int, help="of failures and callers; unset: another each time")
    option("--callers", type=int, default=12, help="generations at once")
    option("--specs", type=int, default=16, help="different generations to ask for")
    option("--folder", type=Path, help="for logs and data; unset: one of its own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
