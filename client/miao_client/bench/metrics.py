"""Turns what the callers of one load have seen into figures."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, quantiles

from miao_client.bench.records import Record
from miao_client.bench.settings import Slo


@dataclass(frozen=True, slots=True)
class Distribution:
    """How values are spread.

    A percentile is interpolated linearly between the two values next to it, as
    numpy.percentile does by default.
    """

    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Distribution | None:
        """Of the values that are there; None where none is."""
        found = array("d", (value for value in values if value is not None))
        if not found:
            return None
        cuts = quantiles(found, n=100, method="inclusive") if len(found) > 1 else [found[0]] * 99
        return cls(fmean(found), min(found), cuts[49], cuts[89], cuts[98], max(found))


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one load; times are in seconds, rates per second.

    Tokens and latencies are those of completed requests alone.
    """

    duration: float  # from the first sending to the last end
    completed: int
    failed: int
    failures: dict[str, int]  # by status code
    failure_messages: dict[str, str]  # the first of each status code
    recovered: int  # completed, though a worker failed on the way
    refusals: int  # after which a request was sent again
    came_back: int  # completed, though they had been refused
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    requests_per_second: float
    input_tokens_per_second: float
    output_tokens_per_second: float
    slo: dict[str, float] = field(default_factory=dict)
    good: int | None = None  # requests that met all of the SLO; None where none is stated
    goodput: float | None = None  # the same, per second
    ttft: Distribution | None = None
    itl: Distribution | None = None
    tpot: Distribution | None = None
    e2e: Distribution | None = None
    queued: Distribution | None = None
    send_delay: Distribution | None = None


def summarize(records: Sequence[Record], slo: Slo) -> Metrics:
    """Work out the figures of one load."""
    completed = [record for record in records if record.failed is None]
    failed = [record.failed for record in records if record.failed is not None]
    duration = _span(records)
    good = sum(meets(slo, record) for record in completed) if slo.stated else None
    inputs = sum(record.input_tokens for record in completed)
    outputs = sum(record.output_tokens for record in completed)
    return Metrics(
        duration=duration,
        completed=len(completed),
        failed=len(failed),
        failures=dict(Counter(each.kind for each in failed).most_common()),
        failure_messages={each.kind: each.message for each in reversed(failed)},
        recovered=sum(record.attempts > 1 for record in completed),
        refusals=sum(record.refusals for record in records),
        came_back=sum(record.refusals > 0 for record in completed),
        input_tokens=inputs,
        cached_input_tokens=sum(record.cached_input_tokens for record in completed),
        output_tokens=outputs,
        requests_per_second=_per_second(len(completed), duration),
        input_tokens_per_second=_per_second(inputs, duration),
        output_tokens_per_second=_per_second(outputs, duration),
        slo=slo.stated,
        good=good,
        goodput=None if good is None else _per_second(good, duration),
        ttft=Distribution.of(record.ttft for record in completed),
        itl=Distribution.of(gap for record in completed for gap in record.gaps()),
        tpot=Distribution.of(record.tpot for record in completed),
        e2e=Distribution.of(record.e2e for record in completed),
        queued=Distribution.of(record.queued_seconds for record in completed),
        send_delay=Distribution.of(record.send_delay for record in records),
    )


def meets(slo: Slo, record: Record) -> bool:
    """Whether a completed request meets all that is stated.

    One without a second token has no gaps that could be too long; one without a
    first token has none in time.
    """
    if slo.ttft is not None and (record.ttft is None or record.ttft > slo.ttft):
        return False
    if slo.itl is not None and max(record.gaps(), default=0.0) > slo.itl:
        return False
    if slo.tpot is not None and (record.tpot or 0.0) > slo.tpot:
        return False
    return slo.e2e is None or record.e2e <= slo.e2e


def _span(records: Sequence[Record]) -> float:
    if not records:
        return 0.0
    return max(record.ended for record in records) - min(record.sent for record in records)


def _per_second(count: int, duration: float) -> float:
    return count / duration if duration > 0 else 0.0
