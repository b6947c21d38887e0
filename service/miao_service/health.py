"""The standard health service: for the front, for each service, and for each model by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckResponse


class HealthServicer:
    """Answers grpc.health.v1.Health from the last statuses it was told."""

    def __init__(self) -> None:
        self._statuses: dict[str, bool] = {"": False}
        self._changed = asyncio.Event()
        self._is_closed = False

    def tell(self, statuses: Mapping[str, bool]) -> None:
        """Say what serves and what does not; names that are missing are no longer known."""
        if not self._is_closed and statuses != self._statuses:
            self._statuses = dict(statuses)
            self._announce()

    def close(self) -> None:
        """Say that nothing serves any more, and let the watchers go."""
        self._is_closed = True
        self._statuses = dict.fromkeys(self._statuses, False)
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
