"""`miao follow`, `miao cancel` and `miao list`: generations that exist."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from miao_client.cli import arguments, output
from miao_client.cli.generate import show
from miao_client.results import GenerationState
from miao_client.sync.client import Client


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(follow)
    app.command()(cancel)
    app.command("list")(list_generations)


def follow(
    generation_id: arguments.GenerationId,
    target: arguments.Target = None,
    after: Annotated[int, typer.Option(help="Leave out so many tokens.", min=0)] = 0,
    json: arguments.Json = False,
) -> None:
    """Stream a running or finished generation. Ctrl-C leaves it running."""
    with output.reporting(), Client(target) as client:
        show(client.follow(generation_id, after), json)


def cancel(generation_id: arguments.GenerationId, target: arguments.Target = None) -> None:
    """End a generation."""
    with output.reporting(), Client(target) as client:
        generation = client.cancel(generation_id)
        print(f"{generation.generation_id} {generation.state.value}")


def list_generations(
    target: arguments.Target = None,
    model: arguments.Model = None,
    state: Annotated[GenerationState | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(help="The most to show.", min=1)] = 50,
    json: arguments.Json = False,
) -> None:
    """Show your generations, newest first."""
    with output.reporting(), Client(target) as client:
        page_size = min(limit, 1000)
        found = list(islice(client.list(model=model, state=state, page_size=page_size), limit))
    if json:
        output.write_json(found)
        return
    output.write_table(
        ["ID", "MODEL", "STATE", "REASON", "TOKENS#", "ACCEPTED"],
        [
            (
                each.generation_id,
                each.model,
                each.state.value,
                each.ending.reason.value if each.ending else "",
                each.sequence_number,
                f"{each.accept_time.astimezone():%Y-%m-%d %H:%M:%S}",
            )
            for each in found
        ],
    )
