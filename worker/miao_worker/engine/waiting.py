"""The sequences that wait for a row, each tenant's in a line of its own. Knows no torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, KeysView

from miao_worker.engine.sequence import Sequence


class WaitingLines:
    """Lines in the order of arrival; what was put back stands at the head."""

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[str, Sequence]] = {}  # none of them empty
        self._tenants: dict[str, str] = {}  # by sequence id

    def __len__(self) -> int:
        return len(self._tenants)

    def __contains__(self, sequence_id: object) -> bool:
        return sequence_id in self._tenants

    @property
    def tenants(self) -> KeysView[str]:
        """Those that have a line, in the order in which the lines began."""
        return self._lines.keys()

    def values(self) -> Iterator[Sequence]:
        """All, line by line."""
        for line in self._lines.values():
            yield from line.values()

    def get(self, sequence_id: str) -> Sequence | None:
        tenant = self._tenants.get(sequence_id)
        return None if tenant is None else self._lines[tenant][sequence_id]

    def first(self, tenant: str | None = None) -> Sequence | None:
        """The head of a tenant's line, or of the oldest line."""
        if tenant is None:
            tenant = next(iter(self._lines), "")
        line = self._lines.get(tenant)
        return next(iter(line.values())) if line else None

    def add(self, sequence: Sequence) -> None:
        line = self._lines.setdefault(sequence.tenant, OrderedDict())
        line[sequence.sequence_id] = sequence
        self._tenants[sequence.sequence_id] = sequence.tenant

    def put_back(self, sequence: Sequence) -> None:
        """Let it wait at the head: it was there before the others."""
        self.add(sequence)
        self._lines[sequence.tenant].move_to_end(sequence.sequence_id, last=False)

    def remove(self, sequence_id: str) -> Sequence | None:
        """Take it out, wherever it stands; None where it does not."""
        tenant = self._tenants.pop(sequence_id, None)
        if tenant is None:
            return None
        line = self._lines[tenant]
        sequence = line.pop(sequence_id)
        if not line:
            del self._lines[tenant]
        return sequence
