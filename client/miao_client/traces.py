"""Traces of a client's calls: one span for each call, however many tries and connections it takes.

Off unless a client is told `traces=True`, or whose spans to make; then nothing of
OpenTelemetry is imported, and a call costs a function that does nothing. See `miao_client.otel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import Message

from miao_client.errors import InvalidRequestError
from miao_client.profile import YES
from miao_client.results import Accepted, Ending

Carried: TypeAlias = tuple[tuple[str, str | bytes], ...]


class TracerProvider(Protocol):
    """OpenTelemetry's, as far as it is used here."""

    def get_tracer(self, instrumenting_module_name: str, /) -> Any:
        """A tracer by the name of who traces."""


class CallTrace(Protocol):
    """A call's span."""

    @property
    def carried(self) -> Carried:
        """The metadata by which the service goes on with the trace."""

    def note(self, event: str, attributes: Mapping[str, str | int]) -> None:
        """Something happened within the call."""

    def answered(self, response: Message) -> None:
        """A call that answers once has its answer."""

    def ended(self, accepted: Accepted | None, ending: Ending | None) -> None:
        """A stream brings no more: what is known of its generation."""

    def end(self, error: BaseException | None = None) -> None:
        """The call is over. Further ends do nothing."""


class Traces(Protocol):
    """Where a client tells its calls."""

    def begin(self, path: str, request: Message, target: str) -> CallTrace:
        """A call of this method, with its first request."""


class NoCallTrace:
    """A call that nobody is told of."""

    carried: Carried = ()

    def note(self, event: str, attributes: Mapping[str, str | int]) -> None:
        pass

    def answered(self, response: Message) -> None:
        pass

    def ended(self, accepted: Accepted | None, ending: Ending | None) -> None:
        pass

    def end(self, error: BaseException | None = None) -> None:
        pass


NO_CALL_TRACE = NoCallTrace()


class NoTraces:
    """Traces that are off."""

    def begin(self, path: str, request: Message, target: str) -> CallTrace:
        return NO_CALL_TRACE


NO_TRACES = NoTraces()


def resolve(traces: TracerProvider | bool | None, environ: Mapping[str, str]) -> Traces:
    """What the argument says, else MIAO_TRACES.

    Raises:
        InvalidRequestError: They are asked for, and OpenTelemetry is not installed.
    """
    if traces is None:
        traces = environ.get("MIAO_TRACES", "").lower() in YES
    if traces is False:
        return NO_TRACES
    try:
        from miao_client.otel import OtelTraces
    except ImportError:
        raise InvalidRequestError.of(
            "traces", "need their extra: pip install 'miao[otel]'"
        ) from None
    return OtelTraces(None if traces is True else traces)
