"""The calls for generations, for threads."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Unpack
from weakref import WeakSet

from miao_client import methods, options, results
from miao_client.errors import MiaoError
from miao_client.options import GenerateOptions
from miao_client.prompts import Prompt
from miao_client.settings import Settings
from miao_client.stream_state import StreamState
from miao_client.sync.stream import GenerationStream
from miao_client.sync.transport import Transport


class GenerationCalls:
    """Submits, follows, looks at and ends generations."""

    settings: Settings
    _transport: Transport
    _lock: Lock
    _streams: WeakSet[GenerationStream]

    def generate(self, prompt: Prompt, **settings: Unpack[GenerateOptions]) -> GenerationStream:
        """Submit a generation and stream it; the request is sent at once.

        Args:
            prompt: Text, a list of messages (`Message` or dicts with "role" and
                "content"), or token ids.
            **settings: See `GenerateOptions`. What is None or not given is the
                model's default.

        Returns:
            The stream of its chunks. It reconnects by itself. A stream that is
            dropped unread leaves its generation running: close it, or use `create`.

        Raises:
            InvalidRequestError: A value does not fit its field. What the service
                refuses is raised by the stream.

        Example:
            >>> client.generate("一加一等于", max_tokens=8, temperature=0).text
        """
        submission = options.submission(prompt, **self.settings.applied_to(settings))
        budget = self._transport.budget
        state = StreamState(self.settings, submission, timeout=submission.timeout, budget=budget)
        return self._stream(state)

    def create(self, prompt: Prompt, **settings: Unpack[GenerateOptions]) -> results.Generation:
        """Submit a generation without following it.

        Args:
            prompt: As for `generate`.
            **settings: As for `generate`.

        Returns:
            The generation as the service stored it. Where `request_id` names
            one that exists, that one.

        Raises:
            MiaoError: It was refused.

        Example:
            >>> generation = client.create("Write a poem.")
            >>> client.follow(generation.generation_id).text
        """
        submission = options.submission(prompt, **self.settings.applied_to(settings))
        return self._transport.call(methods.create(submission.request))

    def follow(
        self, generation_id: str, after: int = 0, *, timeout: float | None = None
    ) -> GenerationStream:
        """Stream a running or finished generation.

        Args:
            generation_id: Which.
            after: The last sequence number that was seen; 0 streams all of it.
            timeout: Seconds to follow it; None: to its end.

        Returns:
            The stream of what came after. Closing it leaves the generation be.
            Once something has come, a service that no longer knows the generation
            has 5 seconds to learn of it again, from its worker or another caller.

        Raises:
            InvalidRequestError: `after` is negative or `timeout` not above 0.
        """
        options.check_follow(after, timeout)
        budget = self._transport.budget
        state = StreamState(
            self.settings,
            generation_id=generation_id,
            after=after,
            timeout=timeout,
            budget=budget,
        )
        return self._stream(state)

    def get(self, generation_id: str, *, include_output: bool = False) -> results.Generation:
        """Say how far a generation is, and what it has said if `include_output`.

        Raises:
            GenerationNotFoundError: It is not known, or no longer.
        """
        return self._transport.call(methods.get(generation_id, include_output))

    def list(
        self,
        *,
        model: str | None = None,
        state: results.GenerationState | str | None = None,
        page_size: int = 0,
    ) -> Iterator[results.Generation]:
        """Yield the caller's generations, newest first, fetching pages as needed.

        Args:
            model: Only those of this model.
            state: Only those in this state.
            page_size: How many to fetch at a time, to 1,000; 0 leaves it to the service.
        """
        token = ""
        while True:
            page = self._transport.call(methods.list_page(model, state, page_size, token))
            yield from page.generations
            token = page.next_page_token
            if not token:
                return

    def cancel(self, generation_id: str) -> results.Generation:
        """End a generation; one that has ended stays as it is.

        Returns:
            The generation; it may still be running for the length of one step.

        Raises:
            GenerationNotFoundError: It is not known, or no longer.
        """
        return self._transport.call(methods.cancel(generation_id))

    def _stream(self, state: StreamState) -> GenerationStream:
        try:
            stream = GenerationStream(self._transport, state)
        except MiaoError as error:
            raise state.fail(error) from error.__cause__
        with self._lock:
            self._streams.add(stream)
        return stream
