"""Where the weights come from that gradients are taken of.

What an engine serves may be packed for kernels, rounded, or both: gradients need
the model as transformers has it. Where the engine itself runs that, it is shared
and costs nothing. Elsewhere a second copy is loaded when it is first needed, beside
the steps, and dropped when it was not used for a while.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from transformers import PretrainedConfig

from miao_worker.engine.explain.gradients import GradientModel, RefusedError

_log = logging.getLogger(__name__)

_KEEP_SECONDS = 600.0


class GradientSource(Protocol):
    """Gives the model whose gradients are taken."""

    def get(self) -> GradientModel | None:
        """The model; None while it is being loaded. Raises RefusedError where there is none."""
        ...

    def wait(self, seconds: float) -> None:
        """Until it is loaded, or so long."""
        ...

    def release(self) -> None:
        """Nobody needs it for now."""
        ...


class NoGradients:
    """For an engine that offers none."""

    def get(self) -> GradientModel | None:
        raise RefusedError("this worker takes no gradients: leave one out")

    def wait(self, seconds: float) -> None:
        pass

    def release(self) -> None:
        pass


class SharedModel:
    """The model that serves."""

    def __init__(self, model: GradientModel) -> None:
        self._model = model

    def get(self) -> GradientModel | None:
        return self._model

    def wait(self, seconds: float) -> None:
        pass

    def release(self) -> None:
        pass


class CopiedModel:
    """A copy of the weights, in memory while it is used.

    load: makes it, in a thread; raises RefusedError where it cannot.
    """

    def __init__(
        self, load: Callable[[], GradientModel], keep_seconds: float = _KEEP_SECONDS
    ) -> None:
        self._load = load
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._made: GradientModel | None = None
        self._fault: RefusedError | None = None
        self._loading: threading.Thread | None = None
        self._loaded = threading.Event()
        self._timer: threading.Timer | None = None

    def get(self) -> GradientModel | None:
        with self._lock:
            self._stop_timer()
            if self._fault is not None:
                fault, self._fault = self._fault, None  # the next may have better luck
                raise fault
            if self._made is None and self._loading is None:
                self._loaded.clear()
                self._loading = threading.Thread(
                    target=self._run, name="gradient-weights", daemon=True
                )
                self._loading.start()
            return self._made

    def wait(self, seconds: float) -> None:
        self._loaded.wait(seconds)

    def release(self) -> None:
        with self._lock:
            self._stop_timer()
            if self._made is None:
                return
            self._timer = threading.Timer(self._keep_seconds, self._drop)
            self._timer.daemon = True
            self._timer.start()

    def _run(self) -> None:
        made: GradientModel | None = None
        fault: RefusedError | None = None
        try:
            made = self._load()
        except RefusedError as error:
            fault = error
        except Exception as error:
            _log.exception("the weights for gradients cannot be loaded")
            fault = RefusedError(
                f"the weights for gradients cannot be loaded ({type(error).__name__}): "
                "leave one out"
            )
        with self._lock:
            self._made, self._fault, self._loading = made, fault, None
        self._loaded.set()

    def _drop(self) -> None:
        with self._lock:
            self._made = self._timer = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def attention_for(config: PretrainedConfig) -> str:
    """An attention of transformers' own that computes what a causal model asks for."""
    caps = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    return "eager" if caps else "sdpa"
