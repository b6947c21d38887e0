"""`miao score`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from miao_client.cli import arguments, output
from miao_client.results import ScoredToken
from miao_client.sync.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    text: Annotated[str, typer.Argument(help="What to score; - reads it from stdin.")],
    target: arguments.Target = None,
    model: arguments.Model = None,
    prompt: Annotated[
        str | None, typer.Option(help="What stands before it and is not scored.")
    ] = None,
    top: Annotated[int, typer.Option(help="Show so many of the likeliest tokens.")] = 0,
    truncation: arguments.TruncationChoice = None,
    timeout: arguments.Timeout = None,
    json: arguments.Json = False,
) -> None:
    """Say how likely a text is to a model, token by token."""
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        text = sys.stdin.read() if text == "-" else text
        found = client.score(text, prompt=prompt, top_logprobs=top, truncation=truncation)
        if json:
            output.write_json(found)
            return
        output.write_table(["TOKEN", "LOGPROB#", "LIKELIEST"], map(_row, found.tokens))
        print(
            f"log-likelihood {found.log_likelihood:.3f} of {found.num_scored_tokens} tokens, "
            f"perplexity {found.perplexity:.3f}"
        )


def _row(token: ScoredToken) -> tuple[str, str, str]:
    likeliest = "  ".join(f"{top.text!r} {top.logprob:.2f}" for top in token.top)
    return repr(token.text), "" if token.logprob is None else f"{token.logprob:.3f}", likeliest
