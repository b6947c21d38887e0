"""All that callers saw, held against all that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .failures import Event
from .observation import Fault, Observation

_GAP_SECONDS = 20.0  # after a failure, in which a silence counts as its gap
_SLACK_SECONDS = 0.1  # before a failure, from which a silence is taken for its work
_BLAME_SECONDS = 10.0  # after a failure is mended, in which a cancel may still go astray
_HEAD = ("", "count", "streams", "takeovers", *Fault, "p50", "p99", "max")


@dataclass(frozen=True, slots=True)
class Run:
    """One stretch of calls and the failures within it."""

    observations: Sequence[Observation]
    events: Sequence[Event] = ()
    faults: Sequence[str] = ()
    began: float = 0.0


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of some seconds; None where there are none."""

    half: float | None
    most: float | None  # 99 of 100
    longest: float | None

    @classmethod
    def of(cls, values: Iterable[float]) -> Quantiles:
        rank = sorted(values)
        if not rank:
            return cls(None, None, None)
        return cls(rank[len(rank) // 2], rank[int(0.99 * (len(rank) - 1) + 0.5)], rank[-1])

    def cells(self) -> list[str]:
        return [
            "-" if value is None else f"{value:.2f}"
            for value in (self.half, self.most, self.longest)
        ]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of what came of a run.

    streams: that were open when it failed; takeovers: of those that another attempt went on with.
    faults: generations with each; one counts under each failure that it met.
    gaps: for a failure the longest silence of each stream; for a way of calling any silence.
    """

    name: str
    count: int
    streams: int
    takeovers: int
    faults: Mapping[Fault, int]
    gaps: Quantiles

    def cells(self) -> list[str]:
        counts = (self.count, self.streams, self.takeovers, *self.faults.values())
        return [self.name, *map(str, counts), *self.gaps.cells()]


def pauses(observations: Iterable[Observation]) -> Quantiles:
    """Seconds between two events of a stream, over all streams."""
    return Quantiles.of(b - a for seen in observations for a, b in seen.silences())


def gaps(events: Sequence[Event], observations: Iterable[Observation]) -> dict[Event, list[float]]:
    """For each failure the longest silence in each stream that was open when it came.

    Open is a stream from its first token to its end. A silence belongs to the
    failure that began it: one that another failure had begun before counts there.
    """
    found: dict[Event, list[float]] = {event: [] for event in events}
    for seen in observations:
        longest: dict[Event, float] = {}
        for began, ended in seen.silences():
            event = _cause(events, began, ended)
            if event is not None and seen.arrivals[0] <= event.began:
                longest[event] = max(longest.get(event, 0.0), ended - began)
        for event, length in longest.items():
            found[event].append(length)
    return found


def _cause(events: Sequence[Event], began: float, ended: float) -> Event | None:
    """The failure that a silence belongs to: the first within it, else the last before it."""
    before = None
    for event in events:
        if began - _SLACK_SECONDS <= event.began < ended:
            return event
        if event.began < began <= event.began + _GAP_SECONDS:
            before = event
    return before


def check_cancelled(run: Run) -> None:
    """A caller that went away must find its generation cancelled, unless a failure came between."""
    for seen in run.observations:
        if seen.was_cancelled and seen.ran_on and not any(_touches(e, seen) for e in run.events):
            seen.blame(Fault.DIFFERENT, "it was cancelled, nothing failed, and it ran to its end")


def violations(run: Run) -> list[str]:
    """Each with what one needs to find it."""
    found = [
        _describe(seen, violation.text, violation.fault, violation.at, run)
        for seen in run.observations
        for violation in seen.violations
    ]
    return [*found, *(f"FLEET {fault}" for fault in run.faults)]


def failure_rows(run: Run) -> list[Row]:
    """A row for each kind of failure."""
    gaps_by_event = gaps(run.events, run.observations)
    causes = [_last(run.events, moment) for seen in run.observations for moment in seen.takeovers]
    rows = []
    for kind in sorted({event.kind for event in run.events}):
        events = [event for event in run.events if event.kind is kind]
        touched = [s for s in run.observations if any(_touches(e, s) for e in events)]
        lengths = [gap for event in events for gap in gaps_by_event[event]]
        takeovers = sum(cause in events for cause in causes)
        rows.append(
            Row(kind, len(events), len(lengths), takeovers, _faults(touched), Quantiles.of(lengths))
        )
    return rows


def caller_rows(run: Run) -> list[Row]:
    """A row for each way of calling."""
    rows = []
    for way in sorted({seen.behaviour for seen in run.observations}):
        theirs = [seen for seen in run.observations if seen.behaviour == way]
        takeovers = sum(len(seen.takeovers) for seen in theirs)
        count = len(theirs)
        rows.append(Row(f"caller: {way}", count, count, takeovers, _faults(theirs), pauses(theirs)))
    return rows


def table(run: Run) -> str:
    """A row for each kind of failure, then one for each way of calling."""
    rows: list[Sequence[str]] = [_HEAD, *(row.cells() for row in failure_rows(run))]
    rows += [[""] * len(_HEAD), *(row.cells() for row in caller_rows(run))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _faults(observations: Iterable[Observation]) -> dict[Fault, int]:
    found = Counter(
        fault for seen in observations for fault in {each.fault for each in seen.violations}
    )
    return {fault: found[fault] for fault in Fault}


def _last(events: Sequence[Event], moment: float) -> Event | None:
    """The failure that had begun last."""
    return max(
        (event for event in events if event.began <= moment),
        key=lambda event: event.began,
        default=None,
    )


def _touches(event: Event, seen: Observation) -> bool:
    """Whether the failure may have to do with what a caller saw."""
    ended = float("inf") if seen.ended is None else seen.ended
    over = float("inf") if event.mended is None else event.mended + _BLAME_SECONDS
    return event.began <= ended and seen.began <= over


def _describe(seen: Observation, text: str, fault: Fault, at: float, run: Run) -> str:
    around = [
        f"{event.kind} {event.victim} at {event.began - run.began:.1f} s"
        for event in run.events
        if _touches(event, seen)
    ]
    lived = f"{seen.began - run.began:.1f} to {at - run.began:.1f} s"
    return (
        f"{fault.value.upper()} {text} | generation {seen.generation_id}, spec {seen.spec.index} "
        f"({seen.behaviour}), {lived}, {seen.attempts} attempts, {seen.seen} tokens seen | "
        f"failures: {'; '.join(around) or 'none'}"
    )
