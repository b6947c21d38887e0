"""The client for asyncio."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from types import TracebackType
from typing import Self
from weakref import WeakSet

from miao_client.aio.answers import AsyncAnswerCalls
from miao_client.aio.generations import AsyncGenerationCalls
from miao_client.aio.operations import AsyncOperationCalls
from miao_client.aio.stream import AsyncGenerationStream
from miao_client.aio.transport import AsyncTransport
from miao_client.callers import AsyncApiKey, Metadata
from miao_client.interceptors import AsyncInterceptor, checked_async
from miao_client.settings import Settings
from miao_client.tls import Tls
from miao_client.traces import TracerProvider


class AsyncClient(AsyncGenerationCalls, AsyncAnswerCalls, AsyncOperationCalls):
    """Calls Miao from one event loop; any number of its tasks may share one.

    The asynchronous twin of `Client`, with the same settings and methods:
    `generate` and `follow` return at once and are read with `async for`, `list`
    is read with `async for`, all else is awaited.

    Args:
        target: As for `Client`, like all that follow.
        model: The model for calls that name none.
        timeout: Seconds that a generation may take, for calls that do not say.
        call_timeout: Seconds that any other call may take.
        connect_timeout: Seconds to go on trying while no service answers.
        reconnect_timeout: The same for a generation that was accepted already.
        wait_when_busy: Seconds to wait in all when the service is busy.
        retry_budget: How many retries the calls of this client have together.
        retry_ratio: How much of a retry a call that succeeds puts back.
        health_check: Whether addresses whose health service denies are left out.
        api_key: The key or bearer token that each call shows; an `AsyncTokenProvider` too.
        metadata: More gRPC metadata for each call.
        tls: Files for TLS, or True for TLS by the public roots.
        interceptors: gRPC's own for asyncio.
        traces: True, or a tracer provider, for a span of OpenTelemetry's for each call.

    Raises:
        InvalidRequestError: A setting has no sense.

    Example:
        >>> async with AsyncClient() as client:
        ...     async for chunk in client.generate("为什么我的手机没有信号？"):
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
        api_key: AsyncApiKey | None = None,
        metadata: Metadata = (),
        tls: Tls | bool | None = None,
        interceptors: Sequence[AsyncInterceptor] = (),
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
            interceptors=checked_async(interceptors),
            traces=traces,
        )
        self._begin(AsyncTransport(self.settings))

    def _begin(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._streams: WeakSet[AsyncGenerationStream] = WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the streams that are still open, then the connections."""
        for stream in list(self._streams):
            await stream.close()
        await self._transport.close()

    def with_options(
        self,
        *,
        api_key: AsyncApiKey | None = None,
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
        client._begin(AsyncTransport(client.settings, self._transport))
        return client
