"""When requests come and how long they are."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeAlias

from miao_client.bench import jsonl
from miao_client.bench.arrivals import read_trace
from miao_client.bench.loads import Arrival
from miao_client.plan.errors import PlanError, as_plan_error

# Draws the tokens of a prompt, or of an answer.
Lengths: TypeAlias = Callable[[Random], int]
# Draws the tokens of a prompt and of its answer.
Pairs: TypeAlias = Callable[[Random], tuple[int, int]]

_FORMS = (
    "a number of tokens, uniform:LEAST-MOST, exponential:MEAN, lognormal:MEDIAN:P99, "
    "or normal:MEAN:DEVIATION"
)
_Z99 = 2.3263478740408408  # of the standard normal distribution


def lengths(option: str, text: str) -> Lengths:
    """What an option says of lengths.

    Raises:
        PlanError: It is none of the forms.
    """
    kind, _, rest = text.partition(":")
    try:
        if not rest:
            return _fixed(int(kind))
        values = [float(part) for part in rest.replace("-", ":").split(":")]
        match kind, values:
            case "uniform", [least, most] if 1 <= least <= most:
                return lambda random: random.randint(int(least), int(most))
            case "exponential", [mean] if mean >= 1:
                return _exponential(mean)
            case "lognormal", [median, p99] if 1 <= median < p99:
                sigma = math.log(p99 / median) / _Z99
                return lambda random: max(1, round(median * math.exp(random.gauss(0, sigma))))
            case "normal", [mean, deviation] if mean >= 1 and deviation >= 0:
                return lambda random: max(1, round(random.gauss(mean, deviation)))
    except ValueError:
        pass
    raise PlanError(f"{option} must be {_FORMS}, with at least 1 token, not {text!r}.")


def _fixed(tokens: int) -> Lengths:
    if tokens < 1:
        raise ValueError
    return lambda random: tokens


def _exponential(mean: float) -> Lengths:
    """The geometric distribution of this mean, from 1 up."""
    if mean <= 1:
        return lambda random: 1
    scale = -1 / math.log1p(-1 / mean)
    return lambda random: 1 + int(random.expovariate(1 / scale))


def read_pairs(path: Path) -> Pairs:
    """Lengths drawn from a file of measured ones, with `input_tokens` and `output_tokens` each.

    Raises:
        PlanError: It cannot be read; the message names the line.
    """
    found: list[tuple[int, int]] = []
    with as_plan_error():
        for entry in jsonl.read(path):
            pair = entry.count("input_tokens"), entry.count("output_tokens")
            if pair[0] is None or pair[1] is None:
                raise entry.wrong('"input_tokens" and "output_tokens" must be there')
            found.append((pair[0], pair[1]))
    if not found:
        raise PlanError(f"{path} has no lengths.")
    return lambda random: random.choice(found)


def pairs_of(prompts: Lengths, answers: Lengths) -> Pairs:
    """Prompts and answers that do not depend on each other."""
    return lambda random: (prompts(random), answers(random))


@dataclass(frozen=True, slots=True)
class Profile:
    """Requests a second over time: straight lines between points, then the last one's rate."""

    points: tuple[tuple[float, float], ...]  # (second, requests a second)

    @classmethod
    def constant(cls, rate: float) -> Profile:
        """The same rate always."""
        return cls(((0.0, rate),))

    @property
    def peak(self) -> float:
        """The highest rate."""
        return max(rate for _, rate in self.points)

    @property
    def seconds(self) -> float:
        """Where the last point is."""
        return self.points[-1][0]

    def rate(self, at: float) -> float:
        """At a moment."""
        place = bisect_right(self.points, (at, math.inf))
        if place == 0:
            return self.points[0][1]
        begin, rate = self.points[place - 1]
        if place == len(self.points):
            return rate
        end, next_rate = self.points[place]
        return rate + (next_rate - rate) * (at - begin) / (end - begin)

    def scaled(self, factor: float) -> Profile:
        """So many times the rate."""
        return Profile(tuple((at, rate * factor) for at, rate in self.points))

    def arrivals(self, random: Random, seconds: float) -> Iterator[float]:
        """A Poisson process of this rate, by thinning one of the highest (Lewis, Shedler 1979)."""
        peak, at = self.peak, 0.0
        is_constant = all(rate == peak for _, rate in self.points)
        while peak > 0:
            at += random.expovariate(peak)
            if at >= seconds:
                return
            if is_constant or random.random() * peak < self.rate(at):
                yield at


def read_profile(path: Path) -> Profile:
    """Read a profile: lines of {"at": seconds, "rate": requests a second}, in order.

    Raises:
        PlanError: It cannot be read; the message names the line.
    """
    points: list[tuple[float, float]] = []
    with as_plan_error():
        for entry in jsonl.read(path):
            point = entry.seconds("at"), entry.seconds("rate")
            if points and point[0] <= points[-1][0]:
                raise entry.wrong(f'"at" must be more than {points[-1][0]:g}, the one before')
            points.append(point)
    if len(points) < 2 or max(rate for _, rate in points) <= 0:
        raise PlanError(f"{path} must have two points at least, and a rate above 0.")
    return Profile(tuple(points))


def read_arrivals(path: Path) -> Sequence[Arrival]:
    """Read a trace, as `miao bench` takes it.

    Raises:
        PlanError: It cannot be read; the message names the line.
    """
    with as_plan_error():
        return read_trace(path).arrivals
