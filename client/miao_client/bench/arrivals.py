"""When requests come: drawn at random, or read from a trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from miao_client.bench import jsonl
from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Arrival, Traced


def poisson(rate: float, random: Random) -> Iterator[float]:
    """The arrival times of a Poisson process, in seconds, without end.

    The gaps are independent and exponential with mean 1 / rate, the first one
    too, as between people who do not know of each other.
    """
    at = 0.0
    while True:
        at += random.expovariate(rate)
        yield at


def read_trace(path: Path) -> Traced:
    """Read a trace: one JSON object a line, in the order of time.

    Each has `at`, the seconds after the beginning, and may have `input_tokens`,
    `output_tokens` and `prompt`.

    Raises:
        SettingsError: It cannot be read; the message names the line.
    """
    arrivals: list[Arrival] = []
    for entry in jsonl.read(path):
        at = entry.seconds("at")
        if arrivals and at < arrivals[-1].at:
            raise entry.wrong(f'"at" must not be less than {arrivals[-1].at:g}, the one before')
        arrivals.append(
            Arrival(at, entry.count("input_tokens"), entry.count("output_tokens"), entry.prompt())
        )
    if not arrivals:
        raise SettingsError(f"{path} has no arrivals.")
    return Traced(path.name, tuple(arrivals))
