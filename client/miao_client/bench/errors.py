"""What a benchmark refuses before it begins."""

from __future__ import annotations


class SettingsError(ValueError):
    """A setting makes no sense; the message names its option and the limit."""
