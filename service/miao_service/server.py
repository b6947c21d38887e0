"""A front as a process: its event loop, its signals, and the line that says it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from miao_queue.telemetry import traces
from miao_queue.telemetry.exposition import exposed
from miao_service import metrics
from miao_service.front import Front
from miao_service.settings import ServiceSettings, parse_address

logger = logging.getLogger(__name__)

Ready = Callable[[int], None]


def serve(settings: ServiceSettings, ready: Ready | None = None) -> None:
    """Run one front until SIGTERM or SIGINT, then drain it.

    Args:
        settings: as read at the entry point; `processes` is not looked at here.
        ready: called with the port once the front listens.
    """
    traces.connect(settings.traces_endpoint, "miao-front")
    with (
        contextlib.closing(traces.active()),
        exposed(settings.metrics_listen, metrics.REGISTRY) as address,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        if address:
            logger.info("metrics are served at %s", address)
        runner.run(_serve(settings, ready))


def announce(settings: ServiceSettings, port: int) -> None:
    """Say on standard output, and in the ready file, that the front listens."""
    host, _ = parse_address(settings.listen)
    shown = f"[{host}]" if ":" in host else host
    if settings.ready_file:
        Path(settings.ready_file).write_text(f"{port}\n", "utf-8")
    print(f"front listening on {shown}:{port}", flush=True)


async def _serve(settings: ServiceSettings, ready: Ready | None) -> None:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    front = Front(settings)
    port = await front.start()
    if front.health_address:
        logger.info("health is served at %s", front.health_address)
    if ready is not None:
        ready(port)
    await asked_to_stop.wait()
    await front.drain()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # where it cannot be built, asyncio's own loop does
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
