"""The client for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import date
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from weakref import WeakSet

from miao_client import explaining, methods, options, results, scoring, understanding
from miao_client import fleet as fleets
from miao_client.callers import ApiKey, Metadata
from miao_client.explaining import ExplainLabelOptions, ExplainOptions, ExplainOutputOptions
from miao_client.explanation_results import Explanation
from miao_client.methods import Operation
from miao_client.options import LONGEST_SECONDS, GenerateOptions, Priority, Truncation
from miao_client.prompts import Prompt, TokenIds
from miao_client.settings import Settings
from miao_client.stream_state import StreamState
from miao_client.sync.stream import GenerationStream
from miao_client.sync.transport import Transport
from miao_client.tls import Tls
from miao_client.tools import Tool
from miao_client.understanding import (
    ClassifyInputs,
    ClassifyOptions,
    EmbedOptions,
    RerankOptions,
    UnderstandOptions,
)
from miao_client.understanding_results import Classifications, Embeddings, RankedDocuments

_Answer = TypeVar("_Answer")
_Options = TypeVar(
    "_Options",
    EmbedOptions,
    ClassifyOptions,
    RerankOptions,
    ExplainOutputOptions,
    ExplainLabelOptions,
)


class Client:
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
        api_key: The key or bearer token that each call shows, or a function that
            returns one before each call. Else from MIAO_API_KEY; "" shows none.
        metadata: More gRPC metadata for each call.
        tls: Files for TLS, or True for TLS by the public roots. Else from MIAO_TLS,
            MIAO_TLS_ROOTS, MIAO_CLIENT_CERTIFICATE and MIAO_CLIENT_KEY; else without.

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
        api_key: ApiKey | None = None,
        metadata: Metadata = (),
        tls: Tls | bool | None = None,
    ) -> None:
        self.settings = Settings.resolve(
            target,
            model=model,
            timeout=timeout,
            call_timeout=call_timeout,
            connect_timeout=connect_timeout,
            reconnect_timeout=reconnect_timeout,
            wait_when_busy=wait_when_busy,
            api_key=api_key,
            metadata=metadata,
            tls=tls,
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
        state = StreamState(self.settings, submission, timeout=submission.timeout)
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
        state = StreamState(
            self.settings, generation_id=generation_id, after=after, timeout=timeout
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

    def models(self) -> tuple[results.Model, ...]:
        """The models that workers have announced, by name."""
        return self._transport.call(methods.list_models())

    def model(self, name: str | None = None) -> results.Model:
        """Say all about one model: this one, the client's own, or the only one.

        Raises:
            ModelNotFoundError: No worker has announced it.
        """
        return self._transport.call(methods.get_model(self.settings.model_or(name)))

    def fleet(self) -> fleets.Fleet:
        """What the fleet is doing at this moment; needs the scope "operate"."""
        return self._transport.call(fleets.get_fleet())

    def usage(
        self,
        *,
        first_day: date | None = None,
        last_day: date | None = None,
        tenant: str | None = None,
        all_tenants: bool = False,
    ) -> tuple[fleets.UsageSum, ...]:
        """What was taken, by tenant, day and model; days are in UTC, at most 100 of them.

        Args:
            first_day: Unset, the last day alone.
            last_day: Unset, today.
            tenant: Whose, if not the caller's own; needs the scope "operate".
            all_tenants: Of all; needs the scope "operate".
        """
        return self._transport.call(fleets.sum_usage(first_day, last_day, tenant, all_tenants))

    def usage_records(
        self, *, page_size: int = 0, page_token: str = "", tenant: str | None = None
    ) -> fleets.UsagePage:
        """A page of what each generation took, the oldest first.

        Whoever keeps the last page's token, and goes on from it, reads each record once.
        """
        return self._transport.call(fleets.list_usage(page_size, page_token, tenant))

    def audit(self, *, page_size: int = 0, page_token: str = "") -> fleets.AuditPage:
        """A page of who did what, the newest first; needs the scope "operate"."""
        return self._transport.call(fleets.list_audit(page_size, page_token))

    def tokenize(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        tools: Sequence[Tool | Callable[..., Any]] | None = None,
    ) -> results.Tokenization:
        """Turn a text or a conversation into the model's tokens, as `generate` would."""
        return self._transport.call(methods.tokenize(prompt, self.settings.model_or(model), tools))

    def score(
        self,
        text: str | TokenIds,
        *,
        prompt: Prompt | None = None,
        model: str | None = None,
        top_logprobs: int = 0,
        priority: Priority | str | None = None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        request_id: str | None = None,
        truncation: Truncation | str | None = None,
    ) -> results.Score:
        """Say how likely a text is, alone or behind a prompt.

        It waits and runs as generations do, in their batches; it is not streamed.

        Args:
            text: What is scored: text or `TokenIds`.
            prompt: What stands before it and is not scored: text, messages or token
                ids. None: nothing; then the first token has no score.
            model: Its name; None: the client's, else the only one served.
            top_logprobs: Report so many of the likeliest tokens in each place, to 20.
            priority: Who goes first when workers are busy.
            timeout: Seconds that it may take; None: the client's, else 24 hours.
            queue_timeout: Seconds to wait for a worker.
            request_id: Idempotency key; None: the SDK makes one.
            truncation: What becomes of a prompt that is too long for the model
                together with the text; None: refuse.

        Raises:
            MiaoError: It was refused, failed, or ran out of time.

        Example:
            >>> client.score(" blue", prompt="The sky is").log_likelihood
        """
        operation = scoring.score(
            text,
            prompt,
            model=self.settings.model_or(model),
            top_logprobs=top_logprobs,
            priority=priority,
            timeout=self.settings.timeout if timeout is None else timeout,
            queue_timeout=queue_timeout,
            request_id=request_id,
            truncation=truncation,
        )
        seconds = timeout or self.settings.timeout or LONGEST_SECONDS
        return self._transport.call(operation, seconds)

    def embed(self, inputs: str | Sequence[str], **settings: Unpack[EmbedOptions]) -> Embeddings:
        """Turn texts into vectors.

        Args:
            inputs: A text, or up to 1,024 of them.
            **settings: See `EmbedOptions`.

        Raises:
            MiaoError: It was refused, or failed.

        Example:
            >>> client.embed(["你好", "hello"]).vectors
        """
        return self._understand(understanding.embed(inputs, self._named(settings)), settings)

    def classify(
        self, inputs: ClassifyInputs, **settings: Unpack[ClassifyOptions]
    ) -> Classifications:
        """Label texts, pairs of texts, or the tokens of texts, as the model does.

        Args:
            inputs: A text, or up to 1,024 texts and pairs; a pair is a tuple.
            **settings: See `ClassifyOptions`.

        Raises:
            MiaoError: It was refused, or failed.

        Example:
            >>> client.classify("很好用！").classifications[0].best.label
        """
        return self._understand(understanding.classify(inputs, self._named(settings)), settings)

    def rerank(
        self, query: str, documents: Sequence[str], **settings: Unpack[RerankOptions]
    ) -> RankedDocuments:
        """Order documents by how well they answer a query.

        Args:
            query: What is looked for.
            documents: Up to 1,024 texts.
            **settings: See `RerankOptions`.

        Raises:
            MiaoError: It was refused, or failed.

        Example:
            >>> client.rerank("capital of China", ["北京", "Rome"]).results[0].document
        """
        operation = understanding.rerank(query, documents, self._named(settings))
        return self._understand(operation, settings)

    def explain(self, prompt: Prompt, **settings: Unpack[ExplainOutputOptions]) -> Explanation:
        """Say which tokens of a prompt carried the output, and what else could have been said.

        It waits and runs as generations do; it is not streamed.

        Args:
            prompt: Text, a list of messages, or token ids; with the output 1,024 tokens
                at most.
            **settings: See `ExplainOutputOptions`.

        Raises:
            MiaoError: It was refused, failed, or ran out of time.

        Example:
            >>> explanation = client.explain("The capital of France is")
            >>> explanation.total
            >>> Path("why.html").write_text(explanation.to_html())
        """
        operation = explaining.explain_output(prompt, self._named(settings))
        return self._explain(operation, settings)

    def explain_label(
        self, text: str | tuple[str, str], **settings: Unpack[ExplainLabelOptions]
    ) -> Explanation:
        """Say which tokens of a text, or of a pair of texts, carried a classifier's label.

        Args:
            text: A text, or two that are judged together.
            **settings: See `ExplainLabelOptions`.

        Raises:
            MiaoError: It was refused, failed, or ran out of time.

        Example:
            >>> (client.explain_label("很好用！", label="praise")).attributions[0].scores
        """
        operation = explaining.explain_label(text, self._named(settings))
        return self._explain(operation, settings)

    def _explain(self, operation: Operation[Explanation], settings: ExplainOptions) -> Explanation:
        seconds = settings.get("timeout") or self.settings.timeout or LONGEST_SECONDS
        return self._transport.call(operation, seconds)

    def _named(self, settings: _Options) -> _Options:
        named = settings.copy()
        named["model"] = self.settings.model_or(settings.get("model"))
        return named

    def _understand(self, operation: Operation[_Answer], settings: UnderstandOptions) -> _Answer:
        timeout = self.settings.call_timeout_or(settings.get("timeout"))
        return self._transport.call(operation, timeout)

    def _stream(self, state: StreamState) -> GenerationStream:
        stream = GenerationStream(self._transport, state)
        with self._lock:
            self._streams.add(stream)
        return stream
