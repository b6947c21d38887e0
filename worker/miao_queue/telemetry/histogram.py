"""A histogram that takes many equal observations as one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import isinf

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """Observations by one label, from one thread.

    A step brings a token to each sequence of a batch, and for most of them the same
    time has passed since the last one: one observation of a weight costs what one of
    them costs. `prometheus_client.Histogram` takes them singly, under a lock.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._bounds = (*buckets, float("inf"))
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, label: str, value: float, count: int = 1) -> None:
        """Count a value so many times."""
        counts = self._counts.get(label)
        if counts is None:
            counts = self._counts[label] = [0] * len(self._bounds)
            self._sums[label] = 0.0
        counts[bisect_left(self._bounds, value)] += count
        self._sums[label] += value * count

    def collect(self) -> Iterable[Metric]:
        """What Prometheus reads."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        for label, counts in list(self._counts.items()):
            total, rows = 0, []
            for bound, count in zip(self._bounds, tuple(counts), strict=True):
                total += count
                rows.append(("+Inf" if isinf(bound) else str(float(bound)), float(total)))
            family.add_metric([label], rows, self._sums[label])
        yield family

    def describe(self) -> Iterable[Metric]:
        """The name alone, for the registry to see that it is the only one."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
