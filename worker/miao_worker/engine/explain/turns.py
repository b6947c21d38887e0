"""Passes in a thread that takes turns with the steps, so that one may rest in its midst.

    the engine's thread                    the passes' thread
    next(passes) ── its turn ────────────► computes, product by product
         │                                      │ rest() between two of them:
         │ ◄──────────── gives it back ──────── its time is over
    others' steps                          waits

Only one of the two runs at any time. A pass on weights that nothing else uses can stop
anywhere; one on those that serve must not, since others' steps would find them as the
pass has left them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class _AbandonedError(Exception):
    """Nobody wants the passes any more."""


class Turns:
    """Whose turn it is. Used by the two threads alone."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.rested_seconds = 0.0  # of the passes, until now
        self._clock = clock
        self._go = self._back = threading.Semaphore(0)  # of the passes at hand
        self._until = 0.0
        self._is_abandoned = False

    def rest(self) -> None:
        """Called by the passes wherever they may stop: returns at once, or at the next turn."""
        if threading.current_thread().name == _THREAD and self._clock() >= self._until:
            self.give_back()

    def give_back(self) -> None:
        """Called by the passes: wait for the next turn."""
        began = self._clock()
        self._back.release()
        self._await_turn()
        self.rested_seconds += self._clock() - began

    @contextmanager
    def between_products(self, model: nn.Module) -> Iterator[None]:
        """Let the model rest before each of its products, forward and back."""
        modules = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D)]
        handles = [m.register_forward_pre_hook(lambda *_: self.rest()) for m in modules]
        handles += [m.register_forward_hook(self._rest_on_the_way_back) for m in modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def of(
        self, passes: Generator[bool, None, None], seconds: Callable[[], float]
    ) -> Generator[bool, None, None]:
        """`passes`, stopped also in their midst when a turn has taken `seconds`.

        Yields True while a pass is under way.
        """
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._is_abandoned, ended = False, []
        between: list[bool] = []  # what the passes say where one ends

        def run() -> None:
            error: BaseException | None = None
            try:
                self._await_turn()
                for holds in passes:
                    between.append(holds)
                    self.give_back()
            except BaseException as raised:
                error = raised
            finally:
                passes.close()
                ended.append(error)
                self._back.release()

        thread = threading.Thread(target=run, name=_THREAD, daemon=True)
        thread.start()
        try:
            while True:
                self._until = self._clock() + seconds()
                self._go.release()
                self._back.acquire()
                if ended:
                    break
                yield between.pop() if between else True
            if ended[0] is not None:
                raise ended[0]
        finally:
            if not ended:
                self._is_abandoned = True
                self._go.release()
            thread.join()

    def _await_turn(self) -> None:
        self._go.acquire()
        if self._is_abandoned:
            raise _AbandonedError

    def _rest_on_the_way_back(self, _: nn.Module, __: object, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda _: self.rest())  # type: ignore[no-untyped-call]


_THREAD = "explain"
