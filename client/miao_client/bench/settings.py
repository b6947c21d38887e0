"""What is to be measured, and which of it makes no sense."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Closed, Load, Poisson, Traced

DEFAULT_REQUESTS = 100
MOST_CONCURRENCY = 10_000
MOST_RATE = 100_000.0


@dataclass(frozen=True, slots=True)
class Slo:
    """What a request must meet to count as good; seconds, None where nothing is asked."""

    ttft: float | None = None
    itl: float | None = None  # no gap between two tokens is longer
    tpot: float | None = None  # the gaps are no longer than this on average
    e2e: float | None = None

    @property
    def stated(self) -> dict[str, float]:
        """The limits that are set, by name."""
        limits = {"ttft": self.ttft, "itl": self.itl, "tpot": self.tpot, "e2e": self.e2e}
        return {name: limit for name, limit in limits.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Settings:
    """One benchmark: each load in turn, all with requests of the same kind.

    Raises:
        SettingsError: Something of it makes no sense.
    """

    loads: tuple[Load, ...]
    requests: int | None = None  # for each load; None: the default, or as long as `duration`
    duration: float | None = None  # seconds in which requests are sent
    warmup: int = 0  # requests before each load, which are not measured
    prompts: str = "random"  # or "shared-prefix", or a file's path
    input_tokens: int = 128
    output_tokens: int = 128
    shared_prefix_tokens: int | None = None  # of the input tokens
    ignore_eos: bool = False
    temperature: float | None = None
    timeout: float | None = None
    wait_when_busy: float = 0.0  # seconds in which a refused request comes back
    seed: int = 0
    slo: Slo = Slo()

    def __post_init__(self) -> None:
        """Check what needs no service to be known."""
        if not self.loads:
            raise SettingsError("Say the load: exactly one of --concurrency, --rate or --arrivals.")
        if self.requests is not None and self.duration is not None:
            raise SettingsError("--requests and --duration exclude each other.")
        at_least("--requests", self.requests, 1)
        at_least("--warmup", self.warmup, 0)
        at_least("--input-tokens", self.input_tokens, 1)
        at_least("--output-tokens", self.output_tokens, 1)
        above_zero("--duration", self.duration)
        if not 0 <= self.wait_when_busy < math.inf:
            raise SettingsError(
                "--wait-when-busy must be a number of seconds, 0 or more, "
                f"not {self.wait_when_busy:g}."
            )
        for name, limit in self.slo.stated.items():
            above_zero(f"--slo-{name}", limit)
        for load in self.loads:
            self._check_load(load)
        self._check_shared_prefix()

    def num_requests(self, load: Load) -> int | None:
        """How many requests the load has; None where only time ends it."""
        if self.duration is not None:
            return None
        if isinstance(load, Traced):
            return min(self.requests or len(load.arrivals), len(load.arrivals))
        if self.requests is not None:
            return self.requests
        # Enough that beginning and end, when not all callers are busy, weigh little.
        return max(DEFAULT_REQUESTS, 4 * load.concurrency if isinstance(load, Closed) else 0)

    def _check_load(self, load: Load) -> None:
        match load:
            case Closed(concurrency):
                if not 1 <= concurrency <= MOST_CONCURRENCY:
                    raise SettingsError(
                        f"--concurrency must be from 1 to {MOST_CONCURRENCY:,}, not {concurrency}."
                    )
                if self.requests is not None and self.requests < concurrency:
                    raise SettingsError(
                        f"--requests must be at least --concurrency, which is {concurrency}, "
                        f"not {self.requests}: some callers would never send."
                    )
            case Poisson(rate):
                if not 0 < rate <= MOST_RATE:  # NaN too
                    raise SettingsError(
                        f"--rate must be above 0 and at most {MOST_RATE:,.0f} requests a second, "
                        f"not {rate:g}."
                    )
            case Traced():
                pass  # its reader has checked it

    def _check_shared_prefix(self) -> None:
        length = self.shared_prefix_tokens
        if self.prompts != "shared-prefix":
            if length is not None:
                raise SettingsError("--shared-prefix-tokens needs --prompts shared-prefix.")
            return
        if length is None:
            raise SettingsError("--prompts shared-prefix needs --shared-prefix-tokens.")
        if not 1 <= length < self.input_tokens:
            raise SettingsError(
                "--shared-prefix-tokens must be at least 1 and less than --input-tokens, "
                f"which is {self.input_tokens}, not {length}."
            )


def loads_of(
    concurrency: Iterable[int] | None, rate: Iterable[float] | None, trace: Traced | None
) -> tuple[Load, ...]:
    """The loads that exactly one of three ways names.

    Raises:
        SettingsError: Not exactly one is given.
    """
    if sum(way is not None for way in (concurrency, rate, trace)) != 1:
        raise SettingsError("Say the load: exactly one of --concurrency, --rate or --arrivals.")
    if trace is not None:
        return (trace,)
    return (*map(Closed, concurrency or ()), *map(Poisson, rate or ()))


def at_least(option: str, value: int | None, least: int) -> None:
    """Refuse a count that is too small."""
    if value is not None and value < least:
        raise SettingsError(f"{option} must be at least {least}, not {value}.")


def above_zero(option: str, seconds: float | None) -> None:
    """Refuse a time that is none."""
    if seconds is not None and not (0 < seconds < math.inf):
        raise SettingsError(f"{option} must be a number of seconds above 0, not {seconds:g}.")


def check_folder(option: str, path: Path | None) -> None:
    """Refuse a file that could not be written once the measuring is done."""
    if path is not None and not path.absolute().parent.is_dir():
        raise SettingsError(f"{option}: there is no folder {path.absolute().parent}.")
