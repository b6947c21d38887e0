"""What a log may say of an unexpected error."""

from __future__ import annotations

import traceback


def describe(error: BaseException) -> str:
    """Its kind and where it happened, but not its own words: they may hold a prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-8:]))
    return f"{type(error).__name__} at {where}"
