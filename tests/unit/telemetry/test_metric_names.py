"""The metrics that the code has are those that documents, dashboards and alerts name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from miao_service import metrics
from miao_worker.metrics import WorkerMetrics

_ROOT = Path(__file__).parents[3]
_MONITORING = _ROOT / "deploy/monitoring"
_ROW = re.compile(r"^\| `(miao_\w+)` \| (\w+) \| ([\w, ]*)\|", re.MULTILINE)
_NAME = re.compile(r"\bmiao_\w+")
_RECORDED = re.compile(r"\bmiao:[\w:]+")


def defined() -> dict[str, str]:
    """The kind of each metric of ours."""
    worker = WorkerMetrics("m")
    worker.follow(lambda: 0)
    families = [*worker.registry.collect(), *metrics.REGISTRY.collect()]
    return {each.name: each.type for each in families if each.name.startswith("miao_")}


def series() -> dict[str, str]:
    """The metric behind each name that Prometheus knows."""
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {name + end: name for name, kind in defined().items() for end in suffixes[kind]}


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_MONITORING / "grafana-dashboard.json").read_text())
    return content


def expressions() -> list[str]:
    """All that the dashboard asks Prometheus, and all lines of the rules that do."""
    panels = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    asked += [each["query"]["query"] for each in dashboard()["templating"]["list"][1:]]
    rules = (_MONITORING / "rules.yml").read_text("utf-8")
    return asked + re.findall(r"^\s*expr: (.*)$", rules, re.MULTILINE)


def test_every_metric_is_in_the_table_and_every_row_is_a_metric() -> None:
    text = (_ROOT / "docs/observability.md").read_text("utf-8")
    assert {name: kind for name, kind, _ in _ROW.findall(text)} == defined()


def test_dashboard_and_rules_name_no_metric_that_there_is_not() -> None:
    named = {name for text in expressions() for name in _NAME.findall(text)}
    assert named <= series().keys(), sorted(named - series().keys())


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    known = series()
    named = {known.get(name) for text in expressions() for name in _NAME.findall(text)}
    assert named >= defined().keys(), sorted(defined().keys() - named)


def test_what_a_rule_asks_for_that_another_records_is_recorded() -> None:
    rules = (_MONITORING / "rules.yml").read_text("utf-8")
    recorded = set(re.findall(r"record: (\S+)", rules))
    asked = {name for text in expressions() for name in _RECORDED.findall(text)}
    assert asked <= recorded


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert max(x for x, _ in covered) < 24, panel["title"]
        assert not covered & cells, panel["title"]
        cells |= covered


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_promtool_takes_the_rules_and_the_example() -> None:
    for what, name in (("rules", "rules.yml"), ("config", "prometheus.yml")):
        command = ["promtool", "check", what, name]
        result = subprocess.run(command, cwd=_MONITORING, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
