"""`miao up`, `miao service`, `miao worker` and `miao gateway`: servers.

They are always listed; what they need is imported when one is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

import typer

from miao_client.cli import output

# Everything behind the command's name, --help too, is for the other package.
_PASS_THROUGH = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}


@dataclass(frozen=True, slots=True)
class Server:
    """A command that lives elsewhere: `module` has a `main(argv)` that returns a status."""

    name: str
    module: str
    extra: str
    help: str


SERVERS = (
    Server("up", "miao_worker.up", "all", "Start Redis, a worker and a front on this machine."),
    Server("service", "miao_service.cli", "service", "Start a front, the gRPC service."),
    Server("keys", "miao_service.auth.keys_cli", "service", "Make, list and revoke API keys."),
    Server("shards", "miao_service.shards_cli", "service", "Show each of several Redis."),
    Server("worker", "miao_worker.cli", "worker", "Start a worker, which runs a model."),
    Server(
        "gateway",
        "miao_client.gateway.command",
        "gateway",
        "Start an HTTP server with OpenAI's API before a front.",
    ),
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for server in SERVERS:
        _register(app, server)


def _register(app: typer.Typer, server: Server) -> None:
    @app.command(server.name, help=server.help, context_settings=_PASS_THROUGH)
    def call(context: typer.Context) -> None:
        raise typer.Exit(_main(server, context.args))


def _main(server: Server, argv: list[str]) -> int:
    try:
        module = import_module(server.module)
    except ModuleNotFoundError as error:
        output.fail(
            f"miao {server.name} needs {error.name}, which comes with its extra: "
            f"pip install 'miao[{server.extra}]'"
        )
    status: int = module.main(argv)
    return status
