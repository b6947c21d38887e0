"""`miao gateway`: run the gateway from the command line."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn

from miao_client.aio.client import AsyncClient
from miao_client.errors import MiaoError
from miao_client.gateway.app import create_app
from miao_client.gateway.settings import GatewaySettings, SettingsError


def main(argv: Sequence[str]) -> int:
    """Run until a signal; returns the exit status."""
    try:
        settings = GatewaySettings.read(argv, os.environ)
        # No key of its own: whoever calls without one is nobody to the service either.
        client = AsyncClient(settings.target, api_key="")
    except (SettingsError, MiaoError) as error:
        return _complain(str(error), 2)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    app = create_app(client, lenient=settings.lenient, most_body_bytes=settings.most_body_bytes)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()  # says now what is wrong with the certificate
    except OSError as error:
        return _complain(f"cannot read the certificate or its key: {error.strerror}", 1)
    try:
        listener = _listen(settings)
    except OSError as error:
        return _complain(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}", 1)
    host, port = listener.getsockname()[:2]
    print(f"gateway listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave_to_uvicorn)
    uvicorn.Server(config).run(sockets=[listener])
    return 0


def _leave_to_uvicorn(number: int, frame: FrameType | None) -> None:
    """It drains, and then raises the signal again, for whoever had a handler before."""


def _listen(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def _complain(message: str, status: int) -> int:
    print(f"miao gateway: {message}", file=sys.stderr)
    return status
