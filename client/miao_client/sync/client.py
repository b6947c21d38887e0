"""The client for threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import copy
from types import TracebackType
from typing import Self
from weakref import WeakSet

from miao_client.callers import ApiKey, Metadata
from miao_client.interceptors import Interceptor, checked
from miao_client.settings import Settings
from miao_client.sync.answers import AnswerCalls
from miao_client.sync.generations import GenerationCalls
from miao_client.sync.operations import OperationCalls
from miao_client.sync.stream import GenerationStream
from miao_client.sync.transport import Transport
from miao_client.tls import Tls
from miao_client.traces import TracerProvider


class Client(GenerationCalls, AnswerCalls, OperationCalls):
    """Calls Miao; any number of threads may share one.

    A client connects at its first call. Connections that break are opened
    again, at the next target where there are several, and streams go on where
    they were. In a program that forks, make the client in the child, or at
    least call nothing before the fork.

    What no argument says is taken from the environment (MIAO_TARGET, MIAO_CALL_TIMEOUT and
    so on), else from the profile `~/.config/miao/config.toml` or MIAO_PROFILE.

    Args:
        target: Address of the service such as "localhost:50051" or
            "dns:///miao:50051", whose addresses are called in turn; several as a list or
            separated by commas, of which the next is used when one breaks. Else
            from MIAO_TARGET, else localhost:50051.
        model: The model for calls that name none. Else from MIAO_MODEL.
        timeout: Seconds that a generation may take, for calls that do not say.
            Else from MIAO_TIMEOUT, else without limit.
        call_timeout: Seconds that any other call may take; else 30.
        connect_timeout: Seconds to go on trying while no service answers; else 5.
        reconnect_timeout: The same for a generation that was accepted already; else 30.
        wait_when_busy: Seconds to wait in all when the service is busy and says
            when to return; 0 raises `BusyError` at once.
        retry_budget: How many retries the calls of this client have together; else 100. Each
            takes one that sends a call again unasked: not where no connection was to be had,
            where the service said when to return, or where a stream was cut that had brought
            something. With none left, a call fails at once; streams of generations that the
            service has accepted go on at their slowest pace. Nothing is ever sent twice at a time.
        retry_ratio: How much of a retry a call that succeeds puts back; else 0.1.
        health_check: Whether a target that stands for several addresses is called only at
            those whose health service does not deny; else True.
        api_key: The key or bearer token that each call shows, a function that
            returns one before each call, or a `TokenProvider`, which keeps one until shortly
            before its end. Else from MIAO_API_KEY; "" shows none.
        metadata: More gRPC metadata for each call.
        tls: Files for TLS, or True for TLS by the public roots. Else from MIAO_TLS,
            MIAO_TLS_ROOTS, MIAO_CLIENT_CERTIFICATE and MIAO_CLIENT_KEY; else without.
        interceptors: gRPC's own, around each try of each call; the first is the outermost. They
            see the metadata that the SDK has put on, and the SDK tries again behind them.
        traces: True for a span of OpenTelemetry's for each call, told to the program's own
            tracer provider, or the provider to tell; needs the extra `otel`. Else from
            MIAO_TRACES; else none.

    Raises:
        InvalidRequestError: A setting has no sense.

    Example:
        >>> with Client() as client:
        ...     for chunk in client.generate("为什么我的手机没有信号？"):
        ...         print(chunk.text, end="", flush=True)
    """

    def __init__(
        self,
        target: str | Sequence[str] | None = None,
        *,
        model: str | None = None,
        timeout: float | None = None,
        call_timeout: float | None = None,
        connect_timeout: float | None = None,
        reconnect_timeout: float | None = None,
        wait_when_busy: float | None = None,
        retry_budget: float | None = None,
        retry_ratio: float | None = None,
        health_check: bool | None = None,
        api_key: ApiKey | None = None,
        metadata: Metadata = (),
        tls: Tls | bool | None = None,
        interceptors: Sequence[Interceptor] = (),
        traces: TracerProvider | bool | None = None,
    ) -> None:
        self.settings = Settings.resolve(
            target,
            model=model,
            timeout=timeout,
            call_timeout=call_timeout,
            connect_timeout=connect_timeout,
            reconnect_timeout=reconnect_timeout,
            wait_when_busy=wait_when_busy,
            retry_budget=retry_budget,
            retry_ratio=retry_ratio,
            health_check=health_check,
            api_key=api_key,
            metadata=metadata,
            tls=tls,
            interceptors=checked(interceptors),
            traces=traces,
        )
        self._begin(Transport(self.settings))

    def _begin(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._streams: WeakSet[GenerationStream] = WeakSet()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the streams that are still open, then the connections."""
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()
        self._transport.close()

    def with_options(
        self,
        *,
        api_key: ApiKey | None = None,
        metadata: Metadata | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> Self:
        """A client on this one's connections, with other credentials or defaults.

        For a program that calls for several callers. What is None stays as it is.
        Closing the new client closes its streams alone; closing this one ends both.

        Raises:
            InvalidRequestError: A setting has no sense.

        Example:
            >>> client.with_options(api_key=callers_key).generate("一加一等于")
        """
        client = copy(self)
        client.settings = self.settings.changed(api_key, metadata, model, timeout)
        client._begin(Transport(client.settings, self._transport))
        return client
