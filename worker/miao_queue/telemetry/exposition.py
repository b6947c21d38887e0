"""The port where Prometheus reads the metrics: apart from gRPC, on loopback unless told so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server

LOOPBACK = "127.0.0.1"


class MetricsListenError(ValueError):
    """The metrics, or health, cannot be served where they were to be."""


def parse_listen(text: str, option: str = "--metrics-listen") -> tuple[str, int]:
    """Host and port of `port`, `host:port` or `[v6]:port`; MetricsListenError if it is none.

    A port alone is on loopback.
    """
    host, separator, port = text.rpartition(":")
    if (separator and not host) or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise MetricsListenError(f"{option} must be PORT or HOST:PORT, not {text!r}")
    return host.strip("[]") or LOOPBACK, int(port)


@contextlib.contextmanager
def exposed(listen: str, registry: CollectorRegistry) -> Iterator[str]:
    """Serve the metrics meanwhile; yields their address, empty where `listen` is.

    Raises MetricsListenError where the port is not to be had.
    """
    if not listen:
        yield ""
        return
    host, port = parse_listen(listen)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise MetricsListenError(f"cannot serve metrics on {listen}: {reason}") from None
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
