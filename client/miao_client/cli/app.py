"""Assembles the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from miao_client import __version__
from miao_client.cli import (
    bench,
    chat,
    explain,
    generate,
    generations,
    models,
    plan,
    score,
    servers,
    status,
    tokenize,
    top,
    understanding,
    usage,
)

app = typer.Typer(
    name="miao",
    help="Miao (秒): second-level LLM inference as a microservice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"miao {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


for module in (
    generate,
    chat,
    models,
    status,
    top,
    usage,
    tokenize,
    score,
    explain,
    understanding,
    generations,
    bench,
    plan,
    servers,
):
    module.register(app)


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    _speak_utf8()
    try:
        app(args=None if argv is None else list(argv), prog_name="miao")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def _speak_utf8() -> None:
    """Print every character right, also where the locale names no encoding for it."""
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "encoding", "utf-8").lower().replace("-", "") != "utf8":
            getattr(stream, "reconfigure", lambda **_: None)(encoding="utf-8")
