"""What the engine refuses.

EngineError
├── AdapterError     an adapter cannot be served, or no longer; the model goes on without it
└── ModelLoadError   the model or its settings cannot be served; says why and what to do
"""

from __future__ import annotations


class EngineError(Exception):
    """An engine cannot do what was asked; the message is one public sentence."""


class AdapterError(EngineError):
    """An adapter cannot be served over this model, or cannot be loaded any more."""


class ModelLoadError(EngineError):
    """The model cannot be served as configured; raised at start, never later."""
