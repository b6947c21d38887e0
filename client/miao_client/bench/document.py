"""A report as JSON. Times are in seconds; docs/benchmarking.md describes the fields."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from miao_client import __version__
from miao_client.bench.loads import Closed, Load, Poisson, Traced
from miao_client.bench.records import Record
from miao_client.bench.settings import Settings
from miao_client.bench.sweep import Point, Report

FORMAT = 1  # goes up when a field changes its meaning


def write(report: Report, path: Path, *, with_records: bool) -> None:
    """Write it; a file that was there is replaced only by a whole one."""
    text = json.dumps(document(report, with_records=with_records), ensure_ascii=False, indent=2)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


def document(report: Report, *, with_records: bool = False) -> dict[str, Any]:
    """The report as plain data."""
    return {
        "format": FORMAT,
        "client_version": __version__,
        "begin": report.begin.isoformat(),
        "targets": list(report.targets),
        "model": asdict(report.model),
        "settings": _settings(report.settings),
        "interrupted": report.interrupted is not None,
        "points": [_point(point, with_records) for point in report.points],
    }


def _settings(settings: Settings) -> dict[str, Any]:
    plain = {name: getattr(settings, name) for name in settings.__slots__ if name != "slo"}
    return plain | {"loads": list(map(_load, settings.loads)), "slo": settings.slo.stated}


def _load(load: Load) -> dict[str, Any]:
    match load:
        case Closed(concurrency):
            return {"kind": "closed", "concurrency": concurrency}
        case Poisson(rate):
            return {"kind": "poisson", "rate": rate}
        case Traced(name, arrivals):
            return {"kind": "trace", "name": name, "arrivals": len(arrivals)}


def _point(point: Point, with_records: bool) -> dict[str, Any]:
    plain = {
        "load": _load(point.load),
        "unfinished": point.num_unfinished,
        "warmup_failed": point.num_warmup_failed,
        "generator_cpu": point.generator_cpu,
        **asdict(point.metrics),
    }
    if with_records:
        begin = min((record.sent for record in point.records), default=0.0)
        plain["records"] = [_record(record, begin) for record in point.records]
    return plain


def _record(record: Record, begin: float) -> dict[str, Any]:
    return {
        "intended": record.intended - begin,
        "sent": record.sent - begin,
        "ended": record.ended - begin,
        "ttft": record.ttft,
        "tpot": record.tpot,
        "e2e": record.e2e,
        "itl": list(record.gaps()),
        "queued": record.queued_seconds,
        "input_tokens": record.input_tokens,
        "cached_input_tokens": record.cached_input_tokens,
        "output_tokens": record.output_tokens,
        "attempts": record.attempts,
        "refusals": record.refusals,
        "failure": record.failed.kind if record.failed else None,
    }
