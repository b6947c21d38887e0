"""The ways in which requests come.

Closed loop: the service sets the pace, since a caller waits for his answer.
Open loop: the world sets it, and who comes while the service is slow waits too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from miao_client.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace; what is None is as the settings say."""

    at: float  # seconds after the trace's beginning
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt: Prompt | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    """So many callers, each of whom sends its next request when the last has ended."""

    concurrency: int

    @property
    def label(self) -> str:
        """The load in words."""
        return f"concurrency {self.concurrency}"


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent callers: requests come at random, `rate` a second on average."""

    rate: float

    @property
    def label(self) -> str:
        """The load in words."""
        return f"{self.rate:g} requests/s"


@dataclass(frozen=True, slots=True)
class Traced:
    """Requests come when a trace says."""

    name: str
    arrivals: tuple[Arrival, ...] = field(repr=False)

    @property
    def label(self) -> str:
        """The load in words."""
        return f"trace {self.name}"


Load: TypeAlias = Closed | Poisson | Traced
