"""What a plan refuses before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from miao_client.bench.errors import SettingsError


class PlanError(ValueError):
    """An option, a calibration or a trace makes no sense; the message names it and the limit."""


@contextmanager
def as_plan_error() -> Iterator[None]:
    """What the parts shared with `miao bench` refuse is a PlanError here."""
    try:
        yield
    except SettingsError as error:
        raise PlanError(str(error)) from None
