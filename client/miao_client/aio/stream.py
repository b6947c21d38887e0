"""A generation's stream, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from types import TracebackType
from typing import Self

import grpc

from miao_client import errors, methods
from miao_client.aio.transport import AsyncTransport, Opened, cut_by_the_other_side
from miao_client.failures import Failure
from miao_client.results import Chunk, GenerationResult
from miao_client.stream_state import CLOSE_TIMEOUT_SECONDS, ENDED_EARLY, StreamState


class AsyncGenerationStream:
    """The tokens of one generation as they come.

    Iterating yields each chunk once, in order, whichever connections break
    meanwhile. Leaving an `async for` loop or an `async with` block before the
    end closes the stream, and closing it cancels the generation, unless it was
    started with `on_disconnect="continue"` or is only followed.

    Example:
        >>> async with client.generate("Once upon a time") as stream:
        ...     async for chunk in stream:
        ...         print(chunk.text, end="", flush=True)
    """

    def __init__(self, transport: AsyncTransport, state: StreamState) -> None:
        self._transport = transport
        self._state = state
        self._reading = asyncio.Lock()  # one reader at a time; cancel() never waits for it
        self._closing = asyncio.Lock()
        call = state.next_call()
        self._opened = transport.open_now(call)
        # Sent at once as well, as soon as there is a token.
        self._opening = None if self._opened else _begun(transport.open(call))

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            while (chunk := await self._advance()) is not None:
                yield chunk
        finally:
            await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def generation_id(self) -> str | None:
        """The generation's id, once the service has accepted it."""
        return self._state.generation_id

    @property
    def so_far(self) -> GenerationResult:
        """All that has come so far; never waits, never raises."""
        return self._state.result()

    async def accepted(self) -> str:
        """Wait until the service has accepted the generation; returns its id.

        Raises:
            MiaoError: It was refused.
        """
        async with self._reading:
            while (generation_id := self._state.generation_id) is None:
                self._state.check_open()
                await self._step()
            return generation_id

    async def text(self) -> str:
        """Wait for the end and return all of the text; raises as `result()` does."""
        return (await self.result()).text

    async def result(self) -> GenerationResult:
        """Wait for the end and return everything.

        After `cancel()` or `close()` that is what had arrived until then.

        Raises:
            MiaoError: The generation was refused, failed, or ran out of time;
                the error's `result` holds what had arrived.
        """
        while await self._advance() is not None:
            pass
        return self._state.result()

    async def cancel(self) -> None:
        """End the generation; the stream ends after the step that is under way.

        May be called from any task. Chunks that are already on their way still
        arrive.

        Raises:
            MiaoError: The service could not be told.
        """
        if self._state.over:
            return
        self._state.cancelled()
        await self._cancel_remotely(timeout=None)

    async def close(self) -> None:
        """Leave the stream; cancels a generation that has not ended (see the class)."""
        async with self._closing:
            if not self._state.over:
                self._state.close()
                if self._state.cancel_on_close:
                    # Closing must not fail; the generation then ends by its own limits.
                    with contextlib.suppress(errors.MiaoError):
                        await self._cancel_remotely(CLOSE_TIMEOUT_SECONDS)
            if self._opening is not None:
                self._opening.cancel()
            if self._opened is not None:
                self._opened.call.cancel()

    async def _advance(self) -> Chunk | None:
        """The next chunk, or None at the end."""
        async with self._reading:
            if self._state.error is not None:
                raise self._state.error
            while not self._state.over:
                chunk = await self._step()
                if chunk is not None:
                    return chunk
            return None

    async def _step(self) -> Chunk | None:
        """Read one event, or mend the connection."""
        opened = self._opened or await self._open()
        try:
            response = await opened.call.read()
        except grpc.RpcError as error:
            await self._mend(opened, Failure.of(error))
        except asyncio.CancelledError:
            await self._mend(opened, cut_by_the_other_side())
        else:
            if response is not grpc.aio.EOF:
                return self._state.receive(response)
            await self._mend(opened, ENDED_EARLY)
        return None

    async def _open(self) -> Opened:
        opening, self._opening = self._opening, None
        self._opened = opened = await (opening or self._transport.open(self._state.next_call()))
        if self._state.over:  # closed meanwhile by another task
            opened.call.cancel()
        return opened

    async def _mend(self, opened: Opened, failure: Failure) -> None:
        self._opened = None
        if self._state.over:
            raise errors.ClientClosedError("The stream was closed while it was read.")
        wait = self._state.failed(failure)
        self._transport.leave(opened.channel, opened.key, failure)
        await self._transport.sleep(wait)

    async def _cancel_remotely(self, timeout: float | None) -> None:  # noqa: ASYNC109  # the deadline travels to the service
        generation_id = self._state.generation_id
        if generation_id is None and self._state.submission is not None:
            # Not accepted as far as we know: the idempotency key finds it, or makes it.
            operation = methods.create(self._state.submission.request)
            generation_id = (await self._transport.call(operation, timeout)).generation_id
        await self._transport.call(methods.cancel(generation_id or ""), timeout)


def _begun(opening: Coroutine[None, None, Opened]) -> asyncio.Task[Opened]:
    task = asyncio.get_running_loop().create_task(opening)
    # What goes wrong is raised to whoever reads; a stream that nobody reads tells nobody.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
