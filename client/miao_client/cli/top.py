"""`miao top`: the fleet at a glance, again each second."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Annotated

import typer
from rich.live import Live

from miao_client.cli import arguments, output
from miao_client.cli.top_view import fleet_rate, view
from miao_client.fleet import Fleet
from miao_client.sync.client import Client

_HISTORY = 60


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    target: arguments.Target = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    json: arguments.Json = False,
) -> None:
    """Show what the fleet is doing: models, workers, queues. Needs the scope "operate"."""
    with output.reporting(), Client(target) as client:
        fleet = client.fleet()
        shown = ", ".join(client.settings.targets)
        if json:
            output.write_json(fleet)
        elif once or not sys.stdout.isatty():
            output.console().print(view(fleet, [fleet_rate(None, fleet)], shown))
        else:
            _watch(client, fleet, shown, interval)


def _watch(client: Client, fleet: Fleet, target: str, interval: float) -> None:
    rates: deque[float] = deque([fleet_rate(None, fleet)], maxlen=_HISTORY)
    with Live(view(fleet, rates, target), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            before, fleet = fleet, client.fleet()
            rates.append(fleet_rate(before, fleet))
            live.update(view(fleet, rates, target), refresh=True)
