"""Traces: one span for each phase of a generation, none for a token.

Off until a process installs something better at its start; then nothing of OpenTelemetry is
imported and a phase costs a call that does nothing. A generation's spans hang together by the
W3C `traceparent` that its job carries from the front to whichever workers run it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, Protocol

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]


class TracesError(ValueError):
    """Traces cannot be sent as asked for; the message is one sentence."""


class Span(Protocol):
    """A phase that has begun."""

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, reason: str) -> None:
        """Mark as failed; the reason is a code or a name, never a text of a caller."""

    def end(self, end_ms: int | None = None) -> None:
        """End it, now or at a time of the clock."""


class Traces(Protocol):
    """Where phases are told."""

    def serve(self, method: str, context: Any) -> AbstractContextManager[Span]:
        """A gRPC call that is served, as part of its caller's trace."""

    def phase(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        """A part of the call that is being served."""

    def here(self) -> str:
        """The `traceparent` of what is being served; empty where nothing is traced."""

    def begin(self, name: str, parent: str | Span, begin_ms: int, attributes: Attributes) -> Span:
        """A phase that began at a time, under a `traceparent` or another phase."""

    def close(self) -> None:
        """Send what has not been sent."""


class NoSpan:
    """A phase that nobody is told of."""

    def note(self, attributes: Attributes) -> None:
        pass

    def fail(self, reason: str) -> None:
        pass

    def end(self, end_ms: int | None = None) -> None:
        pass


NO_SPAN = NoSpan()
_NOTHING: AbstractContextManager[Span] = nullcontext(NO_SPAN)


class NoTraces:
    """Traces that are off."""

    def serve(self, method: str, context: Any) -> AbstractContextManager[Span]:
        return _NOTHING

    def phase(self, name: str, attributes: Attributes) -> AbstractContextManager[Span]:
        return _NOTHING

    def here(self) -> str:
        return ""

    def begin(self, name: str, parent: str | Span, begin_ms: int, attributes: Attributes) -> Span:
        return NO_SPAN

    def close(self) -> None:
        pass


_active: Traces = NoTraces()


def active() -> Traces:
    """Where this process tells its phases."""
    return _active


def install(traces: Traces) -> Traces:
    """Tell phases there from now on; returns where they were told before."""
    global _active
    before, _active = _active, traces
    return before


def check(endpoint: str) -> None:
    """Raise TracesError where phases cannot be sent there."""
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise TracesError(f"--traces-endpoint must be http://HOST:PORT, not {endpoint!r}")
    if endpoint and not _can_send():
        raise TracesError("traces need more packages: pip install 'miao[otel]'")


def _can_send() -> bool:
    """Whether the exporter is installed; other packages bring parts of OpenTelemetry too."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.grpc") is not None
    except ModuleNotFoundError:
        return False


def connect(endpoint: str, program: str) -> None:
    """Send this process's phases to an OTLP collector; nowhere where the endpoint is empty.

    Raises TracesError.
    """
    check(endpoint)
    if endpoint:
        from miao_queue.telemetry.otlp import OtlpTraces

        install(OtlpTraces.to(endpoint, program))
