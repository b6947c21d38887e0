"""What the commands print, and how an error ends one."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from miao_client.errors import BusyError, InvalidRequestError, MiaoError

INTERRUPTED = 130  # what shells give a program that Ctrl-C ended
TERMINATED = 143  # and one that SIGTERM did
_WIDTH_IN_PIPES = 160

# Control characters and the C1 range, but not tab and newline: a model must not
# be able to steer the terminal.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


class Terminated(KeyboardInterrupt):
    """SIGTERM: it ends a command as Ctrl-C does, so that its generation is cancelled."""


@contextmanager
def reporting() -> Iterator[None]:
    """Turn an error into one line on stderr and the exit status 1."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except MiaoError as error:
        fail(sentence(error))
    except Terminated:
        raise typer.Exit(TERMINATED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(message: str) -> NoReturn:
    """Say what is wrong and exit."""
    sys.stdout.flush()
    print(f"miao: {' '.join(message.split())}", file=sys.stderr)
    raise typer.Exit(1)


def sentence(error: MiaoError) -> str:
    """The error in one line, with what the service said about fields and limits."""
    parts = [error.message]
    if isinstance(error, InvalidRequestError):
        parts += [f"{each.field}: {each.description}" for each in error.violations]
    if isinstance(error, BusyError):
        parts += [f"{each.subject}: {each.description}" for each in error.limits]
    # A detail that the message spells out already is not said twice.
    parts[1:] = [part for part in parts[1:] if part.split(": ", 1)[1] not in error.message]
    said = " ".join(parts)
    if error.retry_after is None:
        return said
    return f"{said.rstrip('.')}. Try again in {error.retry_after:g} s."


def write_text(text: str) -> None:
    """Print a piece of a model's answer at once."""
    sys.stdout.write(text.translate(_CONTROLS) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_json(value: object) -> None:
    """Print a result, or a list of them, as JSON."""
    print(json.dumps(_plain(value), ensure_ascii=False, default=_text_of, indent=2))


def write_json_line(value: object) -> None:
    """Print a result as one line of JSON."""
    print(json.dumps(_plain(value), ensure_ascii=False, default=_text_of))


def write_table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; columns whose name ends in `#` hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column.endswith("#")
        table.add_column(column.removesuffix("#"), justify="right" if number else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def console() -> Console:
    """Where tables go; wide in a pipe, so that nothing is cut."""
    return Console(
        width=None if sys.stdout.isatty() else _WIDTH_IN_PIPES, markup=False, highlight=False
    )


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _text_of(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
