"""The standard health service: for the front, for each service, and for each model by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from miao_queue.telemetry.exposition import parse_listen
from miao_queue.telemetry.probes import LIVENESS
from miao_service.ports import BindError, check_free


class HealthServicer:
    """Answers grpc.health.v1.Health from the last statuses it was told.

    LIVENESS serves for as long as anybody answers: without Redis, and while the front drains.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, bool] = {"": False, LIVENESS: True}
        self._changed = asyncio.Event()
        self._is_closed = False

    def tell(self, statuses: Mapping[str, bool]) -> None:
        """Say what serves and what does not; names that are missing are no longer known."""
        known = {**statuses, LIVENESS: True}
        if not self._is_closed and known != self._statuses:
            self._statuses = known
            self._announce()

    def close(self) -> None:
        """Say that nothing serves any more, and let the watchers go."""
        self._is_closed = True
        self._statuses = dict.fromkeys(self._statuses, False) | {LIVENESS: True}
        self._announce()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:  # noqa: N802
        if request.service not in self._statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no service of this name")
        return self._response(request.service)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802
        last = None
        while True:
            changed = self._changed
            response = self._response(request.service)
            if response != last:
                await context.write(response)
                last = response
            if self._is_closed:
                return
            await changed.wait()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _response(self, service: str) -> Any:
        match self._statuses.get(service):
            case None:
                status = HealthCheckResponse.SERVICE_UNKNOWN
            case True:
                status = HealthCheckResponse.SERVING
            case False:
                status = HealthCheckResponse.NOT_SERVING
        return HealthCheckResponse(status=status)


class HealthPort:
    """Health alone on a port of its own without TLS, for probes that have no certificate.

    It answers until the front is over, so that a front that drains is not taken for dead.
    """

    def __init__(self, servicer: HealthServicer, listen: str, *, reuse_port: bool) -> None:
        """`listen` as `parse_listen` has it; empty: nowhere."""
        self._servicer = servicer
        self._listen = listen
        self._reuse_port = reuse_port
        self._server: Any = None

    async def start(self) -> str:
        """Listen, and return the address, empty if there is none; BindError if it is taken."""
        if not self._listen:
            return ""
        host, port = parse_listen(self._listen)
        shown = f"[{host}]" if ":" in host else host
        address = f"{shown}:{port}"
        if not self._reuse_port:
            check_free(address)
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", int(self._reuse_port))])
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        try:
            bound = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise BindError(f"cannot listen on {address}") from error
        await self._server.start()
        return f"{shown}:{bound}"

    async def stop(self) -> None:
        """Answer no more."""
        if self._server is not None:
            await self._server.stop(0)
