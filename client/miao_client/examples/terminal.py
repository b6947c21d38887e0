"""What the applications share at the terminal: where messages come from, and transcripts."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from miao_client.errors import MiaoError

# A model must not be able to steer the terminal: all control characters but tab and newline.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


def messages(given: Sequence[str], hint: str) -> Iterator[str]:
    """Those of the command line, else typed ones, else the lines of the standard input.

    What was not typed is printed, so that the output is the whole conversation.
    """
    if given:
        yield from _shown(given)
    elif not sys.stdin.isatty():
        yield from _shown(line.strip() for line in sys.stdin)
    else:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # input() edits lines with it
        print(hint)
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            while True:
                if said := input("› ").strip():
                    yield said


def _shown(lines: Any) -> Iterator[str]:
    for line in lines:
        if line:
            print(f"› {line}")
            yield line


def write(pieces: Iterator[str]) -> str:
    """Print an answer as it comes; returns all of it."""
    said = []
    for piece in pieces:
        said.append(piece)
        sys.stdout.write(piece.translate(_CONTROLS) if sys.stdout.isatty() else piece)
        sys.stdout.flush()
    print(flush=True)
    return "".join(said)


def record(path: Path | None, entry: dict[str, Any]) -> None:
    """Append an entry to a transcript: a file of JSON, one object on each line."""
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Print in Unicode, and end with one line and status 1 where the service cannot answer."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(encoding="utf-8")
    try:
        yield
    except MiaoError as error:
        sys.stdout.flush()
        print(f"miao: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
