"""`miao models`."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from miao_client.cli import arguments, output
from miao_client.results import Model
from miao_client.sync.client import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(target: arguments.Target = None, json: arguments.Json = False) -> None:
    """Show the models that workers serve."""
    with output.reporting(), Client(target) as client:
        found = client.models()
        if json:
            output.write_json(found)
        elif found:
            write(found)
        else:
            print("No worker serves a model.")


def write(found: Sequence[Model]) -> None:
    """Print the models as a table."""
    output.write_table(
        [
            "MODEL",
            "ARCHITECTURE",
            "PARAMETERS#",
            "DTYPE",
            "CONTEXT#",
            "TASKS",
            "CHAT",
            "WORKERS#",
            "QUEUED#",
        ],
        [
            (
                model.name,
                model.architecture,
                _short(model.num_parameters),
                model.dtype,
                model.max_model_length,
                ", ".join(model.tasks),
                "yes" if model.has_chat_template else "no",
                model.num_workers,
                model.num_queued,
            )
            for model in found
        ],
    )


def _short(number: int) -> str:
    """A count in three digits: 7.24B, 494M, 980K."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
