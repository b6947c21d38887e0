"""The models that workers have announced, as a front knows them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao.v1 import model_service_pb2
from miao.v1.understanding_pb2 import (
    TASK_CLASSIFY,
    TASK_CLASSIFY_TOKENS,
    TASK_EMBED,
    TASK_GENERATE,
    TASK_RERANK,
    Task,
)
from miao_queue.cards import ModelStatus
from miao_service.encoder_tokenization import EncoderTokenizer
from miao_service.errors import InvalidRequestError, ModelNotFoundError, NoWorkerError
from miao_service.tokenization import EncodedChat, ModelTokenizer

_Made = TypeVar("_Made")

logger = logging.getLogger(__name__)

# A text longer than this is tokenized in a thread, so that the streams go on.
_SHORT_TEXT_CHARS = 2048

_CALLS = {
    TASK_GENERATE: "Generate",
    TASK_EMBED: "Embed",
    TASK_CLASSIFY: "Classify",
    TASK_CLASSIFY_TOKENS: "Classify",
    TASK_RERANK: "Rerank",
}
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model's card, its tokenizer, and how it is served at the last look."""

    card: ModelCard
    tokenizer: ModelTokenizer
    status: ModelStatus
    inputs: EncoderTokenizer | None = None  # of an encoder

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What it can be asked for."""
        return tuple(self.card.tasks) or (TASK_GENERATE,)

    def to_message(self) -> model_service_pb2.Model:
        """The model as callers see it."""
        return model_service_pb2.Model(
            name=self.card.name,
            architecture=self.card.architecture,
            num_parameters=self.card.num_parameters,
            dtype=self.card.dtype,
            max_model_length=self.card.max_model_length,
            vocab_size=self.card.vocab_size,
            has_chat_template=bool(self.card.chat_template),
            default_sampling=self.card.default_sampling,
            num_workers=self.status.num_workers,
            num_queued=self.status.num_queued,
            base=self.card.base,
            tool_format=self.card.tool_format.name,
            separates_reasoning=self.card.HasField("reasoning_format"),
            tasks=self.tasks,
            embedding_dimensions=self.card.encoder.embedding_dimensions,
            labels=self.card.encoder.labels,
            prompt_names=sorted(self.card.encoder.prompts),
            explain_methods=self.card.explain_methods,
        )


class CardSource(Protocol):
    """What workers have announced, on one Redis or on several."""

    async def statuses(self) -> dict[str, ModelStatus]: ...

    async def card(self, name: str) -> ModelCard | None: ...

    async def forget(self, name: str, unseen_ms: int) -> bool: ...


class ModelCatalog:
    """Looks at the announced models on demand and at intervals; keeps tokenizers by card."""

    def __init__(self, cards: CardSource, forget_seconds: float = float("inf")) -> None:
        """`forget_seconds`: a model that nobody serves for so long is no longer known."""
        self._cards = cards
        self._forget_ms = forget_seconds * 1000
        self._models: dict[str, ServedModel] = {}
        self._broken: dict[str, str] = {}  # the digests of cards that cannot be used
        self._lock = asyncio.Lock()
        self._looked_at = float("-inf")
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="tokenize")

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """By name, as of the last look."""
        return self._models

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def refresh(self) -> None:
        """Look again; callers that wait together share one look."""
        asked_at = time.monotonic()
        async with self._lock:
            if self._looked_at > asked_at:
                return
            looked_at = time.monotonic()
            statuses = await self._cards.statuses()
            found: dict[str, ServedModel] = {}
            for name, status in statuses.items():  # by name, so a base comes before its adapters
                model = await self._look(name, status, found)
                if model is not None:
                    found[name] = model
            self._models = found
            self._looked_at = looked_at

    async def resolve(self, name: str, field: str, *tasks: Task) -> ServedModel:
        """The model of this name; empty means the only one, of those that do one of the tasks."""
        model = self._choose(name, tasks)
        if model is None:
            await self.refresh()
            model = self._choose(name, tasks)
        if model is not None:
            _check_tasks(model, tasks, field)
            return model
        if name:
            raise ModelNotFoundError(name, self._models)
        if not self._models:
            raise NoWorkerError("")
        raise InvalidRequestError.of(field, self._which(tasks))

    async def in_thread(self, work: Callable[[], _Result]) -> _Result:
        """Do what takes long beside the event loop, so that the streams go on."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def encode(self, model: ServedModel, prompt: str, field: str) -> list[int]:
        """The tokens of a prompt; long ones are made in a thread."""
        return await self._do(partial(model.tokenizer.encode_prompt, prompt, field), len(prompt))

    async def encode_chat(
        self,
        model: ServedModel,
        chat: pb.Chat,
        field: str,
        tools: Sequence[pb.Tool] = (),
        tools_field: str = "",
    ) -> EncodedChat:
        """The tokens of a conversation; those of long ones are made in a thread."""
        if tools and not model.card.HasField("tool_format"):
            raise InvalidRequestError.of(
                tools_field, f"the model {model.card.name!r} takes no tools: leave them out"
            )
        work = partial(model.tokenizer.encode_chat, chat, field, tools, tools_field)
        return await self._do(work, _size(chat, tools))

    async def _do(self, work: Callable[[], _Made], num_chars: int) -> _Made:
        if num_chars <= _SHORT_TEXT_CHARS:
            return work()
        return await self.in_thread(work)

    async def encode_part(self, model: ServedModel, text: str, field: str) -> list[int]:
        """The tokens of a text that stands behind others; long ones are made in a thread."""
        return await self._do(partial(model.tokenizer.encode_text, text, field), len(text))

    def _choose(self, name: str, tasks: Sequence[Task]) -> ServedModel | None:
        if name:
            return self._models.get(name)
        candidates = self._candidates(tasks)
        return candidates[0] if len(candidates) == 1 else None

    def _candidates(self, tasks: Sequence[Task]) -> list[ServedModel]:
        """What an empty name may mean: the able models that are served, or all where none is.

        An adapter has to be named.
        """
        known = [model for model in self._models.values() if not model.card.base]
        able = [model for model in known if not tasks or set(tasks) & set(model.tasks)]
        return [model for model in able if model.status.num_workers] or able

    def _which(self, tasks: Sequence[Task]) -> str:
        """Why no model goes without saying."""
        able = self._candidates(tasks)
        if able:
            names = ", ".join(model.card.name for model in able)
            return f"must name one of the models served: {names}"
        served = (f"{each.card.name} for {_calls(each)}" for each in self._models.values())
        return f"no model served is for {_CALLS[tasks[0]]}; there are {'; '.join(served)}"

    async def _look(
        self, name: str, status: ModelStatus, found: Mapping[str, ServedModel]
    ) -> ServedModel | None:
        if await self._is_forgotten(name, status) or self._broken.get(name) == status.digest:
            return None
        known = self._models.get(name)
        if known is not None and known.status.digest == status.digest:
            if known.card.base:
                return _over_base(known.card, found, status)
            return replace(known, status=status)
        card = await self._cards.card(name)
        if card is None:
            return None
        if card.base:
            return _over_base(card, found, status)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, _served, card, status
            )
        except ValueError as error:
            logger.error("a model is not served: %s", error)
            self._broken[name] = status.digest
            return None

    async def _is_forgotten(self, name: str, status: ModelStatus) -> bool:
        if status.num_workers or status.num_queued or status.unseen_ms < self._forget_ms:
            return False
        return await self._cards.forget(name, int(self._forget_ms))


def _over_base(
    card: ModelCard, found: Mapping[str, ServedModel], status: ModelStatus
) -> ServedModel | None:
    """An adapter with its base's tokenizer; None where the base has gone, or has another."""
    base = found.get(card.base)
    if base is None or base.card.vocabulary_digest != card.vocabulary_digest:
        return None
    return ServedModel(card, base.tokenizer, status)


def _served(card: ModelCard, status: ModelStatus) -> ServedModel:
    inputs = EncoderTokenizer(card) if card.HasField("encoder") else None
    return ServedModel(card, ModelTokenizer(card), status, inputs)


def _calls(model: ServedModel) -> str:
    return ", ".join(sorted({_CALLS[task] for task in model.tasks}))


def _check_tasks(model: ServedModel, tasks: Sequence[Task], field: str) -> None:
    """Refuse a model that does none of the tasks, and say what it does."""
    if tasks and not set(tasks) & set(model.tasks):
        name, asked = model.card.name, _CALLS[tasks[0]]
        raise InvalidRequestError.of(
            field, f"the model {name!r} is not for {asked}; it is for {_calls(model)}"
        )


def _size(chat: pb.Chat, tools: Sequence[pb.Tool]) -> int:
    """Characters, where each message counts for some more; bytes of what is rarer."""
    texts = sum(16 + len(message.content) for message in chat.messages)
    calls = sum(call.ByteSize() for message in chat.messages for call in message.tool_calls)
    return texts + calls + sum(tool.ByteSize() for tool in tools)
