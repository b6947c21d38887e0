"""What a fleet costs, from the price of a worker's hour."""

from __future__ import annotations

from dataclasses import dataclass

from miao_client.plan.outcome import Outcome
from miao_client.plan.question import Slice


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the whole fleet, in the currency of the price."""

    per_hour: float
    per_thousand_requests: float | None  # completed ones; None where none were
    per_million_output_tokens: float | None

    @classmethod
    def of(cls, price: float, outcome: Outcome, part: Slice) -> Cost:
        """price: of one worker, an hour."""
        if not outcome.seconds:
            return cls(0.0, None, None)
        spent = price * outcome.worker_seconds / 3600  # on the part, in the time
        requests, tokens = outcome.ended_in_time, outcome.output_in_time
        return cls(
            per_hour=spent * 3600 / outcome.seconds / part.factor,
            per_thousand_requests=1e3 * spent / requests if requests else None,
            per_million_output_tokens=1e6 * spent / tokens if tokens else None,
        )
