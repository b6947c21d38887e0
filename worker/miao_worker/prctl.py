"""What Linux lets a process ask for itself; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """End this process, by that signal, when its parent dies, however that dies."""
    _prctl(_PR_SET_PDEATHSIG, by)


def set_name(name: str) -> None:
    """Show this name, of at most 15 characters, where `ps` and `top` show the program's."""
    _prctl(_PR_SET_NAME, name.encode())


def _prctl(option: int, value: int | bytes) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)
