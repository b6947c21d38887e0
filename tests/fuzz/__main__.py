"""The long campaign, by hand."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.conftest import RedisServer
from tests.fuzz import campaign


def main() -> int:
    """Attack, and print how the calls ended; 1 if something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            report = asyncio.run(campaign.run(server.url, arguments.minutes * 60, arguments.seed))
        finally:
            server.kill()
    print(report)
    return 1 if report.faults else 0


sys.exit(main())
