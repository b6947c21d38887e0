"""What the engine refuses.

EngineError
└── ModelLoadError   the model or its settings cannot be served; says why and what to do
"""

from __future__ import annotations


class EngineError(Exception):
    """An engine cannot do what was asked; the message is one public sentence."""


class ModelLoadError(EngineError):
    """The model cannot be served as configured; raised at start, never later."""
