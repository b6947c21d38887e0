"""`miao tokenize`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from miao_client.cli import arguments, output
from miao_client.sync.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(tokenize)


def tokenize(
    text: Annotated[str, typer.Argument(help="The text; - reads it from stdin.")],
    target: arguments.Target = None,
    model: arguments.Model = None,
    json: arguments.Json = False,
) -> None:
    """Show a text as a model's tokens."""
    with output.reporting(), Client(target, model=model) as client:
        found = client.tokenize(sys.stdin.read() if text == "-" else text)
        if json:
            output.write_json(found)
            return
        output.write_table(["ID#", "TOKEN"], zip(found.token_ids, found.tokens, strict=True))
        print(f"{len(found.token_ids)} of at most {found.max_model_length} tokens")
