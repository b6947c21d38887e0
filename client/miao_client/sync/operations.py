"""The calls about the service itself, for threads."""

from __future__ import annotations

from datetime import date

from miao_client import fleet as fleets
from miao_client import methods, results
from miao_client.settings import Settings
from miao_client.sync.transport import Transport


class OperationCalls:
    """Says what is served, what the fleet is doing, and what was taken."""

    settings: Settings
    _transport: Transport

    def models(self) -> tuple[results.Model, ...]:
        """The models that workers have announced, by name."""
        return self._transport.call(methods.list_models())

    def model(self, name: str | None = None) -> results.Model:
        """Say all about one model: this one, the client's own, or the only one.

        Raises:
            ModelNotFoundError: No worker has announced it.
        """
        return self._transport.call(methods.get_model(self.settings.model_or(name)))

    def fleet(self) -> fleets.Fleet:
        """What the fleet is doing at this moment; needs the scope "operate"."""
        return self._transport.call(fleets.get_fleet())

    def usage(
        self,
        *,
        first_day: date | None = None,
        last_day: date | None = None,
        tenant: str | None = None,
        all_tenants: bool = False,
    ) -> tuple[fleets.UsageSum, ...]:
        """What was taken, by tenant, day and model; days are in UTC, at most 100 of them.

        Args:
            first_day: Unset, the last day alone.
            last_day: Unset, today.
            tenant: Whose, if not the caller's own; needs the scope "operate".
            all_tenants: Of all; needs the scope "operate".
        """
        return self._transport.call(fleets.sum_usage(first_day, last_day, tenant, all_tenants))

    def usage_records(
        self, *, page_size: int = 0, page_token: str = "", tenant: str | None = None
    ) -> fleets.UsagePage:
        """A page of what each generation took, the oldest first.

        Whoever keeps the last page's token, and goes on from it, reads each record once.
        """
        return self._transport.call(fleets.list_usage(page_size, page_token, tenant))

    def audit(self, *, page_size: int = 0, page_token: str = "") -> fleets.AuditPage:
        """A page of who did what, the newest first; needs the scope "operate"."""
        return self._transport.call(fleets.list_audit(page_size, page_token))
