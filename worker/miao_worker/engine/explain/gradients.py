"""Shares of an input's tokens by gradients, in passes that each take bounded time and memory.

The tokens' embeddings e are moved along a straight way, from neutral ones b:

    b ─────────── b + a (e - b) ─────────── e          a from 0 to 1

Integrated gradients (Sundararajan et al., 2017) integrate the gradient of what is
explained along it, at the points of Gauss and Legendre; a token's share is the
integral times (e - b), and the shares add up to what is explained at e, less what
it is at b. Gradient x input is the gradient at e times e.

A pass is forward, of some points at once, or back from one of the things that are
explained. Between the first and the last pass of a set of points their graph is held. On a
copy of the weights passes rest in their midst too (`turns.py`).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel

from miao_worker.engine.encoder.activation import Activation
from miao_worker.engine.explain.turns import Turns
from miao_worker.engine.explain.types import Method
from miao_worker.engine.memory import free_bytes

Pass = bool  # whether a graph is held after it

_MEASURED_LENGTHS = (8, 24)
_VOCABULARY_ROWS = 4096  # of embeddings at once
_COPIES_OF_LOGITS = 3  # their logarithms, and what the way back makes of them
_FAST = 1e-6  # seconds of a token, before it is known


class RefusedError(Exception):
    """The engine cannot explain that; the message is a public sentence."""


class Values(Protocol):
    """What is explained, as a function of logits."""

    @property
    def count(self) -> int:
        """How many things are explained."""
        ...

    @property
    def num_logits(self) -> int | None:
        """Of how many tokens, the last ones, logits are needed; None: the model has one row."""
        ...

    def of(self, logits: Tensor) -> Tensor:
        """Shapes: logits (rows, num_logits, vocab) or (rows, labels); returns (rows, count)."""
        ...


@dataclass(frozen=True, slots=True)
class OutputValues:
    """Log-probabilities of tokens of an output; together their sum."""

    token_ids: tuple[int, ...]
    chosen: tuple[int, ...]
    is_whole: bool

    @property
    def count(self) -> int:
        return 1 if self.is_whole else len(self.chosen)

    @property
    def num_logits(self) -> int | None:
        return len(self.token_ids)

    def of(self, logits: Tensor) -> Tensor:
        rows = torch.tensor(self.chosen, device=logits.device)
        wanted = torch.tensor([self.token_ids[at] for at in self.chosen], device=logits.device)
        table = logits[:, rows].float().log_softmax(-1)
        found = table.gather(-1, wanted.expand(len(table), -1)[..., None])[..., 0]
        return found.sum(-1, keepdim=True) if self.is_whole else found


@dataclass(frozen=True, slots=True)
class LabelValue:
    """A label's value."""

    label: int
    activation: Activation

    @property
    def count(self) -> int:
        return 1

    @property
    def num_logits(self) -> int | None:
        return None

    def of(self, logits: Tensor) -> Tensor:
        return label_values(logits.float(), self.label, self.activation)[:, None]


def label_values(logits: Tensor, label: int, activation: Activation) -> Tensor:
    """The logarithm of a label's probability, or its number. Shapes: (rows, labels); (rows,)."""
    match activation:
        case Activation.SOFTMAX:
            return logits.log_softmax(-1)[:, label]
        case Activation.SIGMOID:
            return torch.nn.functional.logsigmoid(logits[:, label])
    return logits[:, label]


@dataclass(frozen=True, slots=True)
class GradientTask:
    """What to differentiate: the values of these tokens, by the embeddings of those at `places`."""

    token_ids: tuple[int, ...]
    type_ids: tuple[int, ...]  # empty where all are 0, or the model has none
    places: tuple[int, ...]
    num_input_tokens: int
    values: Values


@dataclass(frozen=True, slots=True)
class Found:
    """For each thing that is explained: a score for each input token, its value, and at b."""

    scores: list[tuple[float, ...]]
    values: tuple[float, ...]
    baselines: list[float]  # empty for gradient x input


class GradientModel:
    """A model of transformers whose embeddings can be moved."""

    def __init__(
        self,
        model: PreTrainedModel,
        memory_bytes: int,
        attention: str | None = None,
        turns: Turns | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take a model, whose weights are left as they are.

        memory_bytes: that a graph may take.
        attention: whose gradients are known to transformers, where the model's own is not.
        turns: that passes take, where nothing else uses the model; None: each runs to its end.
        """
        self._model: Any = model.requires_grad_(False)
        self._memory_bytes = memory_bytes
        self._attention = attention
        self._turns = turns
        self._clock = clock
        parameters = inspect.signature(model.forward).parameters
        self._takes_types = "token_type_ids" in parameters
        self._takes_logits_to_keep = "logits_to_keep" in parameters
        self._neutral: Tensor | None = None
        self._bytes: tuple[float, float] | None = None  # of a graph: by length, by its square
        self._token_seconds = _FAST

    def in_turns(
        self, passes: Generator[Pass, None, None], seconds: Callable[[], float]
    ) -> Generator[Pass, None, None]:
        """These passes, stopped in their midst after so long where that may be."""
        return passes if self._turns is None else self._turns.of(passes, seconds)

    def ends(self, task: GradientTask, method: Method) -> tuple[Tensor, Tensor]:
        """The way's two ends, b and e: (tokens, size) each."""
        with torch.no_grad():
            embedded = self._embed(torch.tensor(task.token_ids, device=self._model.device))
            if method is Method.GRADIENT_X_INPUT:
                return torch.zeros_like(embedded), embedded
            neutral = embedded.clone()
            neutral[list(task.places)] = self._neutral_embedding().to(embedded.dtype)
        return neutral, embedded

    def num_points(self, task: GradientTask, seconds: float) -> int:
        """How many points fit a pass, by memory and by time; one at least.

        RefusedError where the memory does not hold even one.
        """
        needed = self._graph_bytes(task)
        allowed = min(self._memory_bytes, free_bytes(self._model.device) // 2)
        if needed > allowed:
            raise RefusedError(
                f"gradients of {len(task.token_ids)} tokens need {_mib(needed)} MiB and the worker "
                f"allows {_mib(allowed)}: shorten them, or leave one out"
            )
        by_time = seconds / (self._token_seconds * len(task.token_ids))
        return max(1, min(allowed // needed, int(by_time)))

    def forward(self, task: GradientTask, points: Tensor) -> Tensor:
        """What is explained with these embeddings. Shapes: (rows, tokens, size); (rows, count)."""
        started = self._busy_seconds()
        values = task.values.of(self._logits(task, points))
        values.detach().cpu()  # the device is done
        seconds = (self._busy_seconds() - started) / (points.shape[0] * points.shape[1])
        known = self._token_seconds
        self._token_seconds = seconds if known == _FAST else 0.5 * (known + seconds)
        return values

    def _logits(self, task: GradientTask, points: Tensor) -> Tensor:
        ids = torch.tensor(task.token_ids, device=points.device).expand(len(points), -1)
        arguments: dict[str, Any] = {"input_ids": ids}
        count = task.values.num_logits
        if count is None:
            arguments["attention_mask"] = torch.ones_like(ids)
        else:
            arguments["use_cache"] = False
            if self._takes_logits_to_keep:
                arguments["logits_to_keep"] = count
        if task.type_ids and self._takes_types:
            types = torch.tensor(task.type_ids, device=points.device)
            arguments["token_type_ids"] = types.expand(len(points), -1)
        with self._embedding_as(points), self._differentiable_attention(), self._resting():
            logits: Tensor = self._model(**arguments).logits
        return logits if count is None else logits[:, -count:]

    def _embed(self, token_ids: Tensor) -> Tensor:
        embedded: Tensor = self._model.get_input_embeddings()(token_ids)
        return embedded

    def _neutral_embedding(self) -> Tensor:
        """The mean of the vocabulary's."""
        if self._neutral is None:
            weight = self._model.get_input_embeddings().weight
            total = torch.zeros(weight.shape[1], dtype=torch.float32, device=weight.device)
            for begin in range(0, len(weight), _VOCABULARY_ROWS):
                end = min(begin + _VOCABULARY_ROWS, len(weight))
                total += self._embed(torch.arange(begin, end, device=weight.device)).float().sum(0)
            self._neutral = total / len(weight)
        return self._neutral

    @contextmanager
    def _embedding_as(self, points: Tensor) -> Iterator[None]:
        """Let the model's embedding give these, whatever it is asked for."""
        embedding = self._model.get_input_embeddings()
        handle = embedding.register_forward_hook(lambda *_: points)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _differentiable_attention(self) -> Iterator[None]:
        """With an attention that has gradients, where the model serves with one that has none."""
        if self._attention is None:
            yield
            return
        served = self._model.config._attn_implementation
        self._model.set_attn_implementation(self._attention)
        try:
            yield
        finally:
            self._model.set_attn_implementation(served)

    @contextmanager
    def _resting(self) -> Iterator[None]:
        if self._turns is None:
            yield
            return
        with self._turns.between_products(self._model):
            yield

    def _busy_seconds(self) -> float:
        """A clock that stands still while others have their turn."""
        return self._clock() - (0.0 if self._turns is None else self._turns.rested_seconds)

    def _graph_bytes(self, task: GradientTask) -> int:
        """What the graph of one point takes: measured on short ones, and extended."""
        if self._bytes is None:
            short, long = _MEASURED_LENGTHS
            at_short, at_long = self._measured_bytes(task, short), self._measured_bytes(task, long)
            squared = max(0.0, (at_long / long - at_short / short) / (long - short))
            self._bytes = (at_long / long - squared * long, squared)
        length, (linear, squared) = len(task.token_ids), self._bytes
        vocab_size = int(self._model.get_input_embeddings().num_embeddings)
        logits = 4 * (task.values.num_logits or 0) * vocab_size
        return max(1, int(linear * length + squared * length**2)) + _COPIES_OF_LOGITS * logits

    def _measured_bytes(self, task: GradientTask, length: int) -> int:
        """What the way back has to remember of so many tokens, besides the weights."""
        ids = (task.token_ids * length)[:length]
        values = task.values if task.values.num_logits is None else OutputValues((0,), (0,), True)
        short = GradientTask(ids, (), (0,), length, values)
        kept = [*self._model.parameters(), *self._model.buffers()]
        weights = {tensor.untyped_storage().data_ptr() for tensor in kept}
        found: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        points = self.ends(short, Method.GRADIENT_X_INPUT)[1][None].requires_grad_()
        with saved_tensors_hooks(note, lambda tensor: tensor):
            graph = values.of(self._logits(short, points))
        del graph
        return sum(found.values())


def attribute(
    model: GradientModel,
    task: GradientTask,
    method: Method,
    steps: int,
    pass_seconds: Callable[[], float],
) -> Generator[Pass, None, Found]:
    """Find the shares, pass by pass, of several points where that takes no longer than allowed.

    Raises RefusedError.
    """
    neutral, embedded = model.ends(task, method)
    way = embedded - neutral
    scores = torch.zeros(task.values.count, len(task.token_ids), dtype=torch.float64)
    alphas, weights = _points_on_the_way(method, steps)
    values: list[float] = []
    begin = 0
    while begin < len(alphas):
        end = begin + model.num_points(task, pass_seconds())
        part = torch.tensor(alphas[begin:end], dtype=way.dtype, device=way.device)[:, None, None]
        weight = torch.tensor(weights[begin:end], device=way.device)[:, None, None]
        points = (neutral + part * way).requires_grad_()
        graph = model.forward(task, points)
        values = graph[0].tolist()
        begin = end
        yield True
        for thing in range(task.values.count):
            is_last = thing + 1 == task.values.count
            (gradient,) = torch.autograd.grad(
                graph[:, thing].sum(), points, retain_graph=not is_last
            )
            share = ((gradient.float() * weight).sum(0) * way.float()).sum(-1)
            scores[thing] += share.double().cpu()
            if is_last:
                del graph
            yield not is_last
    baselines: list[float] = []
    if method is Method.INTEGRATED_GRADIENTS:
        with torch.no_grad():
            at_end = model.forward(task, embedded[None])[0]
            yield False
            at_begin = model.forward(task, neutral[None])[0]
        values, baselines = at_end.tolist(), at_begin.tolist()
    return Found(_of_input(task, scores), tuple(values), baselines)


def _points_on_the_way(method: Method, steps: int) -> tuple[list[float], list[float]]:
    """Places on the way, and the weight of each in the integral."""
    if method is Method.GRADIENT_X_INPUT:
        return [1.0], [1.0]
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (0.5 * (nodes + 1)).tolist(), (0.5 * weights).tolist()


def _of_input(task: GradientTask, scores: Tensor) -> list[tuple[float, ...]]:
    """Scores of the input's tokens; 0 for those that are not looked at."""
    wanted = torch.zeros(scores.shape[1], dtype=torch.bool)
    wanted[list(task.places)] = True
    kept = scores.where(wanted, 0.0)[:, : task.num_input_tokens]
    return [tuple(row) for row in kept.tolist()]


def _mib(num_bytes: float) -> str:
    return f"{num_bytes / 2**20:,.0f}"
