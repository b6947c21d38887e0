"""A generation's stream, for threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import grpc

from miao_client import errors, methods
from miao_client.failures import Failure
from miao_client.results import Chunk, GenerationResult
from miao_client.stream_state import CLOSE_TIMEOUT_SECONDS, ENDED_EARLY, StreamState
from miao_client.sync.transport import Opened, Transport


class GenerationStream:
    """The tokens of one generation as they come.

    Iterating yields each chunk once, in order, whichever connections break
    meanwhile. Leaving a `for` loop or a `with` block before the end closes the
    stream, and closing it cancels the generation, unless it was started with
    `on_disconnect="continue"` or is only followed.

    Example:
        >>> with client.generate("Once upon a time") as stream:
        ...     for chunk in stream:
        ...         print(chunk.text, end="", flush=True)
    """

    def __init__(self, transport: Transport, state: StreamState) -> None:
        self._transport = transport
        self._state = state
        self._lock = threading.RLock()  # one reader at a time; cancel() never waits for it
        self._opened: Opened | None = transport.open(state.next_call())

    def __iter__(self) -> Iterator[Chunk]:
        try:
            while (chunk := self._advance()) is not None:
                yield chunk
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def generation_id(self) -> str:
        """The generation's id; waits until the service has accepted it.

        Raises:
            MiaoError: It was refused.
        """
        with self._lock:
            while (generation_id := self._state.generation_id) is None:
                self._state.check_open()
                self._step()
            return generation_id

    @property
    def so_far(self) -> GenerationResult:
        """All that has come so far; never waits, never raises."""
        return self._state.result()

    @property
    def text(self) -> str:
        """All of the text; waits for the end. Raises as `result()` does."""
        return self.result().text

    def result(self) -> GenerationResult:
        """Wait for the end and return everything.

        After `cancel()` or `close()` that is what had arrived until then.

        Raises:
            MiaoError: The generation was refused, failed, or ran out of time;
                the error's `result` holds what had arrived.
        """
        with self._lock:
            while self._advance() is not None:
                pass
            return self._state.result()

    def cancel(self) -> None:
        """End the generation; the stream ends after the step that is under way.

        May be called from any thread. Chunks that are already on their way
        still arrive.

        Raises:
            MiaoError: The service could not be told.
        """
        if self._state.over:
            return
        self._state.cancelled()
        self._cancel_remotely(timeout=None)

    def close(self) -> None:
        """Leave the stream; cancels a generation that has not ended (see the class)."""
        if not self._state.over:
            self._state.close()
            if self._state.cancel_on_close:
                self._cancel_quietly()
        if (opened := self._opened) is not None:
            opened.events.cancel()

    def _advance(self) -> Chunk | None:
        """The next chunk, or None at the end."""
        with self._lock:
            if self._state.error is not None:
                raise self._state.error
            while not self._state.over:
                chunk = self._step()
                if chunk is not None:
                    return chunk
            return None

    def _step(self) -> Chunk | None:
        """Read one event, or mend the connection."""
        opened = self._opened or self._open()
        try:
            response = next(opened.events)
        except StopIteration:
            self._mend(opened, ENDED_EARLY)
        except grpc.RpcError as error:
            self._mend(opened, Failure.of(error))
        else:
            return self._state.receive(response)
        return None

    def _open(self) -> Opened:
        self._opened = opened = self._transport.open(self._state.next_call())
        if self._state.over:  # closed meanwhile by another thread
            opened.events.cancel()
        return opened

    def _mend(self, opened: Opened, failure: Failure) -> None:
        self._opened = None
        if self._state.over:
            raise errors.ClientClosedError("The stream was closed while it was read.")
        wait = self._state.failed(failure)
        self._transport.leave(opened.channel, opened.key, failure)
        self._transport.sleep(wait)

    def _cancel_quietly(self) -> None:
        # Closing must not fail; the generation then ends by its own limits.
        with contextlib.suppress(errors.MiaoError):
            self._cancel_remotely(CLOSE_TIMEOUT_SECONDS)

    def _cancel_remotely(self, timeout: float | None) -> None:
        generation_id = self._state.generation_id
        if generation_id is None and self._state.submission is not None:
            # Not accepted as far as we know: the idempotency key finds it, or makes it.
            operation = methods.create(self._state.submission.request)
            generation_id = self._transport.call(operation, timeout).generation_id
        self._transport.call(methods.cancel(generation_id or ""), timeout)
