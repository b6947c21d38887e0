"""What is known of one worker: how long its steps take, what it holds, how long it starts.

A file of JSON, which `miao plan fit` writes and people edit; docs/planning.md has its
fields. `sources` says of each part where it comes from, so that a plan can say which of its
figures were measured and which assumed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from miao_client.plan.errors import PlanError
from miao_client.plan.step_time import StepTime

FORMAT = 1  # goes up when a field changes its meaning
PARTS = ("step", "limits", "delays", "start_seconds")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one engine holds; the defaults are the worker's."""

    max_sequences: int = 64
    max_batch_tokens: int = 2048
    block_size: int = 16
    num_blocks: int = 1 << 30  # of `block_size` tokens
    max_model_length: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Delays:
    """What passes outside the engine, in seconds."""

    accept: float = 0.0  # from a caller's sending until the generation stands in the queue
    claim: float = 0.0  # from there, or from a row's becoming free, until it is in an engine
    deliver: float = 0.0  # from a step's end until the caller has its tokens


@dataclass(frozen=True, slots=True)
class Calibration:
    """One kind of worker."""

    name: str
    step: StepTime
    limits: Limits = Limits()
    delays: Delays = Delays()
    start_seconds: float = 60.0  # from asking for a worker until it claims
    sources: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)  # how well the step's formula fits

    def __post_init__(self) -> None:
        """Refuse what would not end, or would say less than nothing."""
        step = self.step
        slopes = (slope for _, slope in step.hinges)
        for value in (step.base, step.row, step.context, step.chunk, step.attention, *slopes):
            _at_least("step", value, 0.0)
        if step.base <= 0 and not step.hinges and step.row <= 0:
            raise PlanError("step: a step must take some time; base, hinges and row are all 0.")
        for each in fields(Limits):
            _at_least(f"limits.{each.name}", getattr(self.limits, each.name), 1)
        for each in fields(Delays):
            _at_least(f"delays.{each.name}", getattr(self.delays, each.name), 0.0)
        _at_least("start_seconds", self.start_seconds, 0.0)

    def changed(
        self,
        *,
        max_sequences: int | None,
        max_batch_tokens: int | None,
        start_seconds: float | None,
    ) -> Calibration:
        """The same worker, started in another way; None leaves a number as it is.

        Raises:
            PlanError: A number makes no sense.
        """
        stated = {"max_sequences": max_sequences, "max_batch_tokens": max_batch_tokens}
        limits = {name: value for name, value in stated.items() if value is not None}
        sources = dict(self.sources)
        sources |= {"limits": "as stated"} if limits else {}
        sources |= {"start_seconds": "as stated"} if start_seconds is not None else {}
        return replace(
            self,
            limits=replace(self.limits, **limits),
            start_seconds=self.start_seconds if start_seconds is None else start_seconds,
            sources=sources,
        )

    def source(self, part: str) -> str:
        """Where a part comes from."""
        return self.sources.get(part, "assumed")


def read(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        PlanError: It cannot be read; the message names the field.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise PlanError(f"{path} cannot be read as a calibration: {error}.") from None
    try:
        return of_document(found)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None


def of_document(found: object) -> Calibration:
    """The calibration that plain data say.

    Raises:
        PlanError: Something is missing, unknown, or of the wrong kind.
    """
    if not isinstance(found, dict):
        raise PlanError("a calibration must be a JSON object.")
    if found.get("format") != FORMAT:
        raise PlanError(f'"format" must be {FORMAT}, not {found.get("format")!r}.')
    step = _part(found, "step", StepTime)
    step["hinges"] = tuple((int(tokens), float(slope)) for tokens, slope in step["hinges"])
    step["noise"] = tuple(map(float, step["noise"]))
    try:
        return Calibration(
            name=str(found.get("name", "")),
            step=StepTime(**step),
            limits=Limits(**_part(found, "limits", Limits)),
            delays=Delays(**_part(found, "delays", Delays)),
            start_seconds=found.get("start_seconds", 60.0),
            sources=_words(found, "sources"),
            machine=_words(found, "machine"),
            fit=_words(found, "fit"),
        )
    except TypeError as error:
        raise PlanError(f"{error}.") from None


def document(calibration: Calibration) -> dict[str, Any]:
    """The calibration as plain data."""
    return {"format": FORMAT, **asdict(calibration)}


def write(calibration: Calibration, path: Path) -> None:
    """Write it; a file that was there is replaced only by a whole one."""
    text = json.dumps(document(calibration), ensure_ascii=False, indent=1)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(path)


def _part(found: Mapping[str, Any], name: str, kind: type[Any]) -> dict[str, Any]:
    """A part's fields, those that are not there as their defaults; all must be known numbers."""
    values = found.get(name, {})
    if not isinstance(values, dict):
        raise PlanError(f'"{name}" must be an object.')
    known = {each.name: each for each in fields(kind)}
    if unknown := values.keys() - known.keys():
        raise PlanError(f'"{name}" has no field {min(unknown)!r}; it has {", ".join(known)}.')
    for field_name, value in values.items():
        if not isinstance(value, list) and (isinstance(value, bool) or not _is_number(value)):
            raise PlanError(f'"{name}.{field_name}" must be a number, not {value!r}.')
    if kind is StepTime:
        if "base" not in values:
            raise PlanError('"step.base" must be there: seconds of a step besides its tokens.')
        return {"hinges": [], "noise": []} | values
    return dict(values)


def _words(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    values = found.get(name, {})
    if not isinstance(values, dict):
        raise PlanError(f'"{name}" must be an object.')
    return dict(values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _at_least(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PlanError(f"{name} must be a number, not {value!r}.")
    if not (least <= value < math.inf):
        raise PlanError(f"{name} must be at least {least:g} and finite, not {value!r}.")
