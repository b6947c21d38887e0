"""The calls that a model answers once, for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

from miao_client import explaining, methods, results, scoring, understanding
from miao_client.aio.transport import AsyncTransport
from miao_client.explaining import ExplainLabelOptions, ExplainOptions, ExplainOutputOptions
from miao_client.explanation_results import Explanation
from miao_client.methods import Operation
from miao_client.options import LONGEST_SECONDS, Priority, Truncation
from miao_client.prompts import Prompt, TokenIds
from miao_client.settings import Settings
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


class AsyncAnswerCalls:
    """Scores, explains and reads texts."""

    settings: Settings
    _transport: AsyncTransport

    async def score(
        self,
        text: str | TokenIds,
        *,
        prompt: Prompt | None = None,
        model: str | None = None,
        top_logprobs: int = 0,
        priority: Priority | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # the deadline travels to the service
        queue_timeout: float | None = None,
        request_id: str | None = None,
        truncation: Truncation | str | None = None,
    ) -> results.Score:
        """Say how likely a text is, alone or behind a prompt; see `Client.score`.

        Raises:
            MiaoError: It was refused, failed, or ran out of time.
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
        return await self._transport.call(operation, seconds)

    async def embed(
        self, inputs: str | Sequence[str], **settings: Unpack[EmbedOptions]
    ) -> Embeddings:
        """Turn texts into vectors.

        Args:
            inputs: A text, or up to 1,024 of them.
            **settings: See `EmbedOptions`.

        Raises:
            MiaoError: It was refused, or failed.

        Example:
            >>> (await client.embed(["你好", "hello"])).vectors
        """
        return await self._understand(understanding.embed(inputs, self._named(settings)), settings)

    async def classify(
        self, inputs: ClassifyInputs, **settings: Unpack[ClassifyOptions]
    ) -> Classifications:
        """Label texts, pairs of texts, or the tokens of texts, as the model does.

        Args:
            inputs: A text, or up to 1,024 texts and pairs; a pair is a tuple.
            **settings: See `ClassifyOptions`.

        Raises:
            MiaoError: It was refused, or failed.

        Example:
            >>> (await client.classify("很好用！")).classifications[0].best.label
        """
        return await self._understand(
            understanding.classify(inputs, self._named(settings)), settings
        )

    async def rerank(
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
            >>> (await client.rerank("capital of China", ["北京", "Rome"])).results[0].document
        """
        operation = understanding.rerank(query, documents, self._named(settings))
        return await self._understand(operation, settings)

    async def explain(
        self, prompt: Prompt, **settings: Unpack[ExplainOutputOptions]
    ) -> Explanation:
        """Say which tokens of a prompt carried the output, and what else could have been said.

        It waits and runs as generations do; it is not streamed.

        Args:
            prompt: Text, a list of messages, or token ids; with the output 1,024 tokens
                at most.
            **settings: See `ExplainOutputOptions`.

        Raises:
            MiaoError: It was refused, failed, or ran out of time.

        Example:
            >>> explanation = await client.explain("The capital of France is")
            >>> explanation.total
            >>> Path("why.html").write_text(explanation.to_html())
        """
        operation = explaining.explain_output(prompt, self._named(settings))
        return await self._explain(operation, settings)

    async def explain_label(
        self, text: str | tuple[str, str], **settings: Unpack[ExplainLabelOptions]
    ) -> Explanation:
        """Say which tokens of a text, or of a pair of texts, carried a classifier's label.

        Args:
            text: A text, or two that are judged together.
            **settings: See `ExplainLabelOptions`.

        Raises:
            MiaoError: It was refused, failed, or ran out of time.

        Example:
            >>> (await client.explain_label("很好用！", label="praise")).attributions[0].scores
        """
        operation = explaining.explain_label(text, self._named(settings))
        return await self._explain(operation, settings)

    async def tokenize(
        self,
        prompt: Prompt,
        *,
        model: str | None = None,
        tools: Sequence[Tool | Callable[..., Any]] | None = None,
    ) -> results.Tokenization:
        """Turn a text or a conversation into the model's tokens, as `generate` would."""
        operation = methods.tokenize(prompt, self.settings.model_or(model), tools)
        return await self._transport.call(operation)

    async def _explain(
        self, operation: Operation[Explanation], settings: ExplainOptions
    ) -> Explanation:
        seconds = settings.get("timeout") or self.settings.timeout or LONGEST_SECONDS
        return await self._transport.call(operation, seconds)

    def _named(self, settings: _Options) -> _Options:
        named = settings.copy()
        named["model"] = self.settings.model_or(settings.get("model"))
        return named

    async def _understand(
        self, operation: Operation[_Answer], settings: UnderstandOptions
    ) -> _Answer:
        timeout = self.settings.call_timeout_or(settings.get("timeout"))
        return await self._transport.call(operation, timeout)
