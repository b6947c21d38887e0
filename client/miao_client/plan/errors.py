"""What a plan refuses before it begins."""

from __future__ import annotations


class PlanError(ValueError):
    """An option, a calibration or a trace makes no sense; the message names it and the limit."""
