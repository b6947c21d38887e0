"""The vocabulary of validation: what can be said of a field.

A rule looks at a value and yields what is wrong with it; `Fields` applies a
table of rules to a message, and refuses what the table does not know.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from miao_service.errors import Violation


class Rule(Protocol):
    """Says what is wrong with a value."""

    def check(self, value: Any, path: str) -> Iterator[Violation]: ...


@dataclass(frozen=True, slots=True)
class Anything:
    """Every value is fine, or is checked where the model is known."""

    def check(self, value: Any, path: str) -> Iterator[Violation]:
        yield from ()


@dataclass(frozen=True, slots=True)
class Between:
    """A number from low to high; `above` leaves low itself out."""

    low: float
    high: float
    above: bool = False

    def check(self, value: Any, path: str) -> Iterator[Violation]:
        fits = value > self.low if self.above else value >= self.low
        if math.isfinite(value) and fits and value <= self.high:
            return
        range_ = (
            f"above {self.low:g} and at most {self.high:,g}"
            if self.above
            else f"between {self.low:g} and {self.high:,g}"
        )
        yield Violation(path, f"must be {range_}, not {value:g}")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number of no less than `low`; what limits it above depends on the model."""

    low: int

    def check(self, value: int, path: str) -> Iterator[Violation]:
        if value < self.low:
            yield Violation(path, f"must be at least {self.low:,}, not {value:,}")


@dataclass(frozen=True, slots=True)
class Seconds:
    """A duration above 0 and up to so many seconds."""

    high: int

    def check(self, value: Duration, path: str) -> Iterator[Violation]:
        seconds = value.seconds + value.nanos / 1e9
        signs_agree = value.seconds >= 0 and 0 <= value.nanos < 1_000_000_000
        if not signs_agree or not 0 < seconds <= self.high:
            yield Violation(path, f"must be above 0 s and at most {self.high} s, not {seconds:g} s")


@dataclass(frozen=True, slots=True)
class Characters:
    """A text of so many characters."""

    low: int
    high: int

    def check(self, value: str, path: str) -> Iterator[Violation]:
        if not self.low <= len(value) <= self.high:
            yield Violation(
                path, f"must have {self.low} to {self.high:,} characters, not {len(value):,}"
            )


@dataclass(frozen=True, slots=True)
class Bytes:
    """A text of at most so many bytes in UTF-8."""

    high: int

    def check(self, value: str, path: str) -> Iterator[Violation]:
        if len(value) * 4 <= self.high:
            return
        size = len(value.encode())
        if size > self.high:
            yield Violation(path, f"must have at most {self.high:,} bytes, not {size:,}")


@dataclass(frozen=True, slots=True)
class Matches:
    """A text that is empty or matches as a whole; `form` says what in words."""

    pattern: re.Pattern[str]
    form: str

    def check(self, value: str, path: str) -> Iterator[Violation]:
        if value and not self.pattern.fullmatch(value):
            yield Violation(path, f"must be {self.form}")


@dataclass(frozen=True, slots=True)
class Known:
    """A value of the enum that this version knows; `refused` are those that say nothing."""

    enum: Any  # the generated wrapper
    refused: frozenset[int] = frozenset()

    def check(self, value: int, path: str) -> Iterator[Violation]:
        names = [name for name, number in self.enum.items() if number not in self.refused]
        if value in self.refused or value not in self.enum.values():
            yield Violation(path, f"must be one of {', '.join(names)}, not {value}")


@dataclass(frozen=True, slots=True)
class Repeated:
    """So many elements, each under a rule of its own."""

    low: int
    high: int | None
    each: Rule = Anything()

    def check(self, value: Any, path: str) -> Iterator[Violation]:
        count = len(value)
        if count < self.low:
            yield Violation(path, f"must have at least {self.low}, not {count}")
        elif self.high is not None and count > self.high:
            yield Violation(path, f"must have at most {self.high:,}, not {count:,}")
        elif not isinstance(self.each, Anything):
            for index, element in enumerate(value):
                yield from self.each.check(element, f"{path}[{index}]")


@dataclass(frozen=True, slots=True)
class Mapped:
    """At most so many values by key, each under a rule."""

    high: int
    each: Rule

    def check(self, value: Any, path: str) -> Iterator[Violation]:
        if len(value) > self.high:
            yield Violation(path, f"must have at most {self.high:,}, not {len(value):,}")
            return
        for key, element in value.items():
            yield from self.each.check(element, f"{path}[{key}]")


@dataclass(frozen=True, slots=True)
class Fields:
    """A message: a rule for each field, and oneofs of which one must be set."""

    rules: Mapping[str, Rule]
    required: frozenset[str] = frozenset()
    one_of: frozenset[str] = frozenset()

    def check(self, value: Message, path: str) -> Iterator[Violation]:
        prefix = f"{path}." if path else ""
        unknown_fields: Any = UnknownFieldSet(value)
        for unknown in unknown_fields:
            yield Violation(path, f"has the field number {unknown.field_number}, which is unknown")
            break
        for name in self.one_of:
            if value.WhichOneof(name) is None:
                members = value.DESCRIPTOR.oneofs_by_name[name].fields
                names = ", ".join(field.name for field in members)
                yield Violation(f"{prefix}{name}", f"exactly one of {names} must be set")
        for name, rule in self.rules.items():
            has_presence = value.DESCRIPTOR.fields_by_name[name].has_presence
            present = value.HasField(name) if has_presence else bool(getattr(value, name))
            if name in self.required and not present:
                yield Violation(prefix + name, "is required")
            elif present or not has_presence:
                yield from rule.check(getattr(value, name), prefix + name)
