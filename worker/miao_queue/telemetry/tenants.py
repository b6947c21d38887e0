"""Tenants as a label of metrics: as many as a time series database bears."""

from __future__ import annotations

OTHERS = "other"


class TenantLabels:
    """The first so many tenants have a label of their own, all later ones share one."""

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def of(self, tenant: str) -> str:
        """The label to count a tenant under."""
        if tenant in self._known:
            return tenant
        if len(self._known) >= self._limit:
            return OTHERS
        self._known.add(tenant)
        return tenant
