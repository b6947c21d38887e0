"""Health checks of a process that has no gRPC server of its own, for a cluster's probes.

The standard service grpc.health.v1.Health, with two names: "" says whether the process
takes work, LIVENESS whether it still turns and need not be started anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from miao_queue.telemetry.exposition import MetricsListenError, parse_listen

LIVENESS = "miao.liveness"


class Probed(Protocol):
    """What is asked; from another thread, and at any time."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def is_alive(self) -> bool: ...


@contextlib.contextmanager
def answering(listen: str, probed: Probed) -> Iterator[str]:
    """Answer meanwhile; yields the address, empty where `listen` is.

    Raises MetricsListenError where the port is not to be had.
    """
    if not listen:
        yield ""
        return
    host, port = parse_listen(listen, "--health-listen")
    shown = f"[{host}]" if ":" in host else host
    server = _server(probed)
    try:
        port = server.add_insecure_port(f"{shown}:{port}")
    except RuntimeError:
        raise MetricsListenError(f"cannot answer health checks on {listen}") from None
    server.start()
    try:
        yield f"{shown}:{port}"
    finally:
        server.stop(0).wait()


def _server(probed: Probed) -> Any:
    """A server with one thread; gRPC is imported here, for who has probes alone."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    class Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
        def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
            if request.service not in ("", LIVENESS):
                context.abort(grpc.StatusCode.NOT_FOUND, "there is no service of this name")
            is_well = probed.is_alive if request.service else probed.is_ready
            status = health_pb2.HealthCheckResponse.ServingStatus
            return health_pb2.HealthCheckResponse(
                status=status.SERVING if is_well else status.NOT_SERVING
            )

    server = grpc.server(
        ThreadPoolExecutor(1, thread_name_prefix="health"), options=[("grpc.so_reuseport", 0)]
    )
    health_pb2_grpc.add_HealthServicer_to_server(Servicer(), server)
    return server
