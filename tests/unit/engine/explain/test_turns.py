"""Passes that rest in their midst: what they find, how long a turn is, and how they end."""

from __future__ import annotations

import threading
from collections.abc import Generator

import pytest
import torch
from torch import Tensor, nn

from miao_worker.engine.explain.turns import Turns

PRODUCT_SECONDS, TURN_SECONDS = 0.008, 0.020
DEPTH = 5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(nn.Module):
    """A product that takes its time, on the way there and back."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.product, self._clock = nn.Linear(4, 4), clock

    def forward(self, x: Tensor) -> Tensor:
        self._take_time(None)
        y: Tensor = self.product(x)
        if y.requires_grad:
            y.register_hook(self._take_time)
        return y

    def _take_time(self, _: Tensor | None) -> None:
        self._clock.now += PRODUCT_SECONDS


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model(clock: Clock) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(Slow(clock) for _ in range(DEPTH)))


def gradient(model: nn.Module, turns: Turns, found: list[Tensor]) -> Generator[bool, None, None]:
    """A pass forward and one back."""
    x = torch.arange(4.0).requires_grad_()
    with turns.between_products(model):
        y = model(x).square().sum()
    yield True
    found += torch.autograd.grad(y, x)
    yield False


def test_a_turn_ends_at_the_product_in_which_its_time_is_over(
    clock: Clock, model: nn.Sequential
) -> None:
    turns, found = Turns(clock), []
    passes = turns.of(gradient(model, turns, found), lambda: TURN_SECONDS)
    spent, holds = [], []
    began = clock.now
    for held in passes:
        spent.append(clock.now - began)
        holds.append(held)
        clock.now += 1.0  # others' steps
        began = clock.now
    assert max(spent) < TURN_SECONDS + 2 * PRODUCT_SECONDS
    assert sum(spent) == pytest.approx(2 * DEPTH * PRODUCT_SECONDS)
    assert len(spent) == 4  # 3, 2, 3 and 2 products
    assert holds == [True] * (len(holds) - 1) + [False]
    assert turns.rested_seconds == pytest.approx(len(spent))
    undisturbed: list[Tensor] = []
    list(gradient(model, Turns(clock), undisturbed))
    assert torch.equal(found[0], undisturbed[0])


@pytest.mark.parametrize("num_turns", [1, 3])
def test_who_is_not_wanted_any_more_ends_where_it_rests(
    clock: Clock, model: nn.Sequential, num_turns: int
) -> None:
    turns, found = Turns(clock), []
    inner = gradient(model, turns, found)
    passes = turns.of(inner, lambda: TURN_SECONDS)
    for _ in range(num_turns):
        next(passes)
    passes.close()
    assert not found
    assert not [thread for thread in threading.enumerate() if thread.name == "explain"]
    with pytest.raises(StopIteration):
        next(inner)
    again = turns.of(gradient(model, turns, found), lambda: TURN_SECONDS)
    assert list(again)[-1] is False
    assert found


def test_an_error_comes_to_who_takes_the_turns(clock: Clock) -> None:
    def failing() -> Generator[bool, None, None]:
        yield True
        raise RuntimeError("no memory")

    passes = Turns(clock).of(failing(), lambda: 1.0)
    assert next(passes)
    with pytest.raises(RuntimeError, match="no memory"):
        next(passes)
