"""The `miao` command. It needs the extra `miao[cli]`; the SDK does not."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        from miao_client.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        print("The miao command needs its extra: pip install 'miao[cli]'", file=sys.stderr)
        return 1
    return app.run(argv)
