"""Measured steps: read from a file of them, or found in the records of a benchmark.

A benchmark's callers see each token's time. All sequences of a batch get a token in each
step, so tokens that come together are one step, and the time between two such groups is what
the step took, with all that the service adds:

    caller 1   ●    ●    ●        ●    ●
    caller 2        ○────────────►●    ●        ● token   ○ prompt is sent
    steps      1    2    3        4    5        step 4: a row, and caller 2's prompt
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from miao_client.plan.calibration import Limits
from miao_client.plan.errors import PlanError
from miao_client.plan.step_time import StepWork


@dataclass(frozen=True, slots=True)
class Sample:
    """One step: what it computed and how long it took."""

    work: StepWork
    seconds: float


@dataclass(frozen=True, slots=True)
class LoneRequest:
    """One that met an idle worker: what it waited for besides its own step is delay."""

    work: StepWork
    ttft: float
    queued: float


@dataclass(slots=True)
class Measured:
    """All that files have shown."""

    samples: list[Sample] = field(default_factory=list)
    lone: list[LoneRequest] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    max_model_length: int | None = None


@dataclass(slots=True)
class _Group:
    """Tokens of one step: their times, and which of each request's tokens came."""

    times: list[float]
    places: dict[int, int]


def read(paths: Sequence[Path], limits: Limits) -> Measured:
    """Read files that `miao bench --json FILE --records` or a program that steps has written.

    Raises:
        PlanError: One cannot be read, or holds neither.
    """
    found = Measured()
    for path in paths:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise PlanError(f"{path} cannot be read: {error}.") from None
        if not isinstance(document, dict) or not ({"points", "samples"} & document.keys()):
            raise PlanError(
                f'{path} holds no measurement: neither "points", as miao bench --json writes '
                'them, nor "samples" of steps.'
            )
        try:
            _read(document, limits, found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanError(
                f"{path} lacks what a fit needs ({type(error).__name__}: {error}); was it "
                "written by miao bench with --records?"
            ) from None
    return found


def _read(document: dict[str, Any], limits: Limits, found: Measured) -> None:
    found.machine |= document.get("machine", {})
    if "samples" in document:
        found.names.append(str(document.get("name", "")))
        for each in document["samples"]:
            work = {name: each[name] for name in StepWork.__slots__ if name in each}
            found.samples.append(Sample(StepWork(**work), float(each["seconds"])))
        return
    found.names.append(str(document["model"]["name"]))
    found.max_model_length = int(document["model"]["max_model_length"])
    for point in document["points"]:
        records = [record for record in point["records"] if record["failure"] is None]
        found.samples += steps_of(records, limits)
        found.lone += _lone_of(records)


def steps_of(records: Sequence[Mapping[str, Any]], limits: Limits) -> Iterator[Sample]:
    """The steps that one worker took, as far as the records of its callers show them."""
    groups = list(_groups(records))
    hidden = _with_hidden_chunks(groups, records, limits)
    for index, (before, group) in enumerate(itertools.pairwise(groups), start=1):
        if index in hidden:
            continue
        going_on = {n for n, place in before.places.items() if place + 1 < _length(records[n])}
        decoding = {n for n, place in group.places.items() if place > 0}
        if decoding and decoding == going_on:
            seconds = median(group.times) - median(before.times)
            if seconds > 0:
                yield Sample(_work(group, records), seconds)


def _groups(records: Sequence[Mapping[str, Any]]) -> Iterator[_Group]:
    """Tokens that came together: no request twice, and no silence between them."""
    tokens = sorted(_tokens(records))
    gaps = [gap for record in records for gap in record["itl"] if gap > 0]
    if not gaps:
        return
    silence = median(gaps) / 2
    group = _Group([], {})
    for at, number, place in tokens:
        if group.times and (number in group.places or at - group.times[-1] > silence):
            yield group
            group = _Group([], {})
        group.times.append(at)
        group.places[number] = place
    yield group


def _tokens(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int, int]]:
    for number, record in enumerate(records):
        if record["ttft"] is None:
            continue
        at = record["intended"] + record["ttft"]
        yield at, number, 0
        for place, gap in enumerate(record["itl"], start=1):
            at += gap
            yield at, number, place


def _with_hidden_chunks(
    groups: Sequence[_Group], records: Sequence[Mapping[str, Any]], limits: Limits
) -> set[int]:
    """The steps that may hold parts of prompts which did not fit into one step."""
    hidden: set[int] = set()
    for index, group in enumerate(groups):
        work = _work(group, records)
        most = limits.max_batch_tokens - work.rows
        if work.prompt_tokens > most:
            hidden.update(range(index - work.prompt_tokens // max(1, most), index + 1))
    return hidden


def _work(group: _Group, records: Sequence[Mapping[str, Any]]) -> StepWork:
    rows = context = chunks = tokens = 0
    pairs = 0.0
    for number, place in group.places.items():
        record = records[number]
        if place:
            rows += 1
            context += record["input_tokens"] + place
        else:
            cached = record["cached_input_tokens"]
            part = record["input_tokens"] - cached
            chunks += 1
            tokens += part
            pairs += part * (cached + (part + 1) / 2)
    return StepWork(rows, context, chunks, tokens, pairs)


def _length(record: Mapping[str, Any]) -> int:
    return len(record["itl"]) + 1


def _lone_of(records: Sequence[Mapping[str, Any]]) -> Iterator[LoneRequest]:
    """Those that came when nobody else was there, and were alone until their first token."""
    in_order = sorted(enumerate(records), key=lambda pair: pair[1]["sent"])
    busy_until = -1.0
    for place, (number, record) in enumerate(in_order):
        first = record["intended"] + (record["ttft"] or 0.0)
        following = in_order[place + 1][1]["sent"] if place + 1 < len(in_order) else first
        if record["ttft"] is not None and record["sent"] > busy_until and following >= first:
            work = _work(_Group([first], {number: 0}), records)
            yield LoneRequest(work, record["ttft"], record["queued"] or 0.0)
        busy_until = max(busy_until, record["ended"])
