"""`miao status`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice

import typer

from miao_client.cli import arguments, health, models, output
from miao_client.results import Generation, GenerationState, Model
from miao_client.sync.client import Client

_PROBE_TIMEOUT_SECONDS = 3.0
_MOST_RECENT = 200


@dataclass(frozen=True, slots=True)
class Status:
    """What the service looks like from here."""

    fronts: dict[str, str]  # target: health
    models: tuple[Model, ...]
    recent_generations: dict[str, int]  # state or finish reason: count


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(target: arguments.Target = None, json: arguments.Json = False) -> None:
    """Show the health of the fronts, the models, and your recent generations."""
    with output.reporting(), Client(target) as client:
        tls = client.settings.tls
        fronts = {
            name: health.probe(name, _PROBE_TIMEOUT_SECONDS, tls)
            for name in client.settings.targets
        }
        if set(fronts.values()) == {"unreachable"}:
            output.fail(f"No service answers at {', '.join(fronts)}.")
        recent = islice(client.list(page_size=_MOST_RECENT), _MOST_RECENT)
        found = Status(fronts, client.models(), dict(Counter(map(_state, recent))))
        if json:
            output.write_json(found)
        else:
            _write(found)


def _write(found: Status) -> None:
    output.write_table(["FRONT", "HEALTH"], found.fronts.items())
    print()
    if found.models:
        models.write(found.models)
    else:
        print("No worker serves a model.")
    print()
    counts = ", ".join(f"{count} {state}" for state, count in found.recent_generations.items())
    print(f"Recent generations: {counts or 'none'}")


def _state(generation: Generation) -> str:
    if generation.state is GenerationState.FINISHED and generation.ending is not None:
        return f"finished ({generation.ending.reason.value})"
    return generation.state.value
