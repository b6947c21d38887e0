"""FleetService: what the fleet is doing, and who did what. For those who run it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from miao.v1 import fleet_service_pb2 as rpc
from miao_queue.audit import AuditRecord, AuditTrail
from miao_queue.fleet import FleetView
from miao_service.errors import InvalidRequestError
from miao_service.handlers import Call
from miao_service.models import ModelCatalog
from miao_service.settings import ServiceSettings

DEFAULT_PAGE_SIZE = 100


class FleetSource(Protocol):
    """Workers and queues, on one Redis or on several."""

    async def look(self) -> FleetView: ...


class FleetServicer:
    """Answers FleetService. One method for each of the contract's."""

    def __init__(
        self,
        settings: ServiceSettings,
        store: FleetSource,
        catalog: ModelCatalog,
        audit: AuditTrail,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._audit = audit
        self._redis_timeout = settings.redis_timeout_seconds

    async def get_fleet(self, request: rpc.GetFleetRequest, call: Call) -> rpc.GetFleetResponse:
        async with asyncio.timeout(self._redis_timeout):
            await self._catalog.refresh()
            view = await self._store.look()
        response = rpc.GetFleetResponse(workers=view.workers, queues=view.queues)
        response.time.FromMilliseconds(view.time_ms)
        for name, model in sorted(self._catalog.models.items()):
            status = model.status
            response.models.add(
                name=name, num_workers=status.num_workers, num_queued=status.num_queued
            )
        return response

    async def list_audit_records(
        self, request: rpc.ListAuditRecordsRequest, call: Call
    ) -> rpc.ListAuditRecordsResponse:
        count = request.page_size or DEFAULT_PAGE_SIZE
        async with asyncio.timeout(self._redis_timeout):
            await self._audit.flush()
            try:
                found = await self._audit.newest(count, request.page_token)
            except ValueError:
                text = "must be the next_page_token of another page, or empty"
                raise InvalidRequestError.of("page_token", text) from None
        return rpc.ListAuditRecordsResponse(
            records=[_message(record) for _, record in found],
            next_page_token=found[-1][0] if len(found) == count else "",
        )


def _message(record: AuditRecord) -> rpc.AuditRecord:
    message = rpc.AuditRecord(
        tenant=record.tenant,
        credential=record.credential,
        action=record.action,
        outcome=record.outcome,
        generation_id=record.target,
    )
    message.time.FromMilliseconds(record.time_ms)
    return message
