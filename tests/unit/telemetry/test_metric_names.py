"""The metrics that the code has are those that the documents name."""

from __future__ import annotations

import re
from pathlib import Path

from miao_service import metrics
from miao_worker.metrics import WorkerMetrics

_ROOT = Path(__file__).parents[3]
_ROW = re.compile(r"^\| `(miao_\w+)` \| (\w+) \| ([\w, ]*)\|", re.MULTILINE)


def defined() -> dict[str, str]:
    """The kind of each metric of ours."""
    worker = WorkerMetrics("m")
    worker.follow(lambda: 0)
    families = [*worker.registry.collect(), *metrics.REGISTRY.collect()]
    return {each.name: each.type for each in families if each.name.startswith("miao_")}


def test_every_metric_is_in_the_table_and_every_row_is_a_metric() -> None:
    text = (_ROOT / "docs/observability.md").read_text("utf-8")
    assert {name: kind for name, kind, _ in _ROW.findall(text)} == defined()
