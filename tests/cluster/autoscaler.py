"""What KEDA, and the cluster's autoscaler behind it, make of a ScaledObject. Time is told to it.

As KEDA's documentation and that of HorizontalPodAutoscaler describe them: KEDA looks each
pollingInterval, and alone goes from none to some and, after the cooldownPeriod, to none; between
these the autoscaler has the say, within the policies of `behavior`.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# How KEDA's trigger for Redis finds the length of what a key holds.
COUNT = """
    local commands = {list = 'llen', zset = 'zcard', none = 'llen'}
    return redis.call(commands[redis.call('type', KEYS[1]).ok], KEYS[1])
"""
_AUTOSCALER_SECONDS = 15  # between two looks of it
_TOLERANCE = 0.1  # in which it lets things be
_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A ScaledObject, as far as it decides.

    triggers: the key that each looks at, by the name that the formula has for it.
    behavior: the autoscaler's policies, `scaleUp` and `scaleDown`.
    """

    triggers: Mapping[str, str]
    formula: str
    target: float
    activation: float
    polling_seconds: int
    cooldown_seconds: int
    least: int
    most: int
    behavior: Mapping[str, Any]

    @classmethod
    def of(cls, scaled_object: Mapping[str, Any]) -> Rule:
        """Read a manifest; KeyError where it leaves to a default what this knows no default of."""
        spec = scaled_object["spec"]
        modifiers = spec["advanced"]["scalingModifiers"]
        if modifiers["metricType"] != "AverageValue":
            raise ValueError(f"{modifiers['metricType']} is not known here")
        return cls(
            {each["name"]: each["metadata"]["listName"] for each in spec["triggers"]},
            modifiers["formula"],
            float(modifiers["target"]),
            float(modifiers["activationTarget"]),
            spec["pollingInterval"],
            spec["cooldownPeriod"],
            spec["minReplicaCount"],
            spec["maxReplicaCount"],
            spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        )

    def metric(self, count: Callable[[str], int]) -> float:
        """The formula's value, where `count` tells how much a key holds."""
        values = {name: count(key) for name, key in self.triggers.items()}
        return _evaluate(ast.parse(self.formula, mode="eval").body, values)


class Autoscaler:
    """Decides how many replicas there are, from what is counted as its time goes on."""

    def __init__(self, rule: Rule, count: Callable[[str], int], replicas: int = 0) -> None:
        self.replicas = replicas
        self.metric = 0.0
        self._rule = rule
        self._count = count
        self._now = 0
        self._active_at = 0
        self._wanted: list[tuple[int, int]] = []  # when, and how many
        self._changes: list[tuple[int, int]] = []  # when, and by how many

    def advance(self, seconds: int) -> int:
        """Let so much time go by, looking as often as they do; returns the replicas then."""
        for _ in range(seconds // self._rule.polling_seconds):
            self._now += self._rule.polling_seconds
            self._poll()
        return self.replicas

    def _poll(self) -> None:
        rule = self._rule
        self.metric = rule.metric(self._count)
        if self.metric > rule.activation:
            self._active_at = self._now
            if not self.replicas:
                self._set(max(1, rule.least))
        elif self._now - self._active_at >= rule.cooldown_seconds:
            self._set(min(self.replicas, rule.least))
        if self.replicas and self._now % _AUTOSCALER_SECONDS == 0:
            self._set(self._within_policies(self._wish()))

    def _wish(self) -> int:
        """Before any policy; the ratio within the tolerance changes nothing."""
        ratio = self.metric / (self._rule.target * self.replicas)
        wished = self.replicas
        if abs(ratio - 1) > _TOLERANCE:
            wished = math.ceil(self.metric / self._rule.target)
        return min(max(wished, self._rule.least, 1), self._rule.most)

    def _within_policies(self, wished: int) -> int:
        up, down = self._rule.behavior["scaleUp"], self._rule.behavior["scaleDown"]
        self._wanted.append((self._now, wished))
        window = down["stabilizationWindowSeconds"]
        highest = max(each for at, each in self._wanted if at > self._now - window)
        if wished > self.replicas:
            return min(wished, self._limit(up["policies"], 1))
        return max(min(highest, self.replicas), self._limit(down["policies"], -1))

    def _limit(self, policies: Sequence[Mapping[str, Any]], sign: int) -> int:
        """How far the most generous policy lets it go in this direction."""
        limits = []
        for policy in policies:
            since = self._now - policy["periodSeconds"]
            recent = sum(by for at, by in self._changes if at > since and by * sign > 0)
            before = self.replicas - recent
            value = policy["value"]
            step = value if policy["type"] == "Pods" else math.ceil(before * value / 100)
            limits.append(before + sign * step)
        return max(limits) if sign > 0 else min(limits)

    def _set(self, replicas: int) -> None:
        if replicas != self.replicas:
            self._changes.append((self._now, replicas - self.replicas))
            self.replicas = replicas


def _evaluate(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.BinOp(left, sign, right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_evaluate(left, values), _evaluate(right, values))
        case ast.Name(name):
            return values[name]
        case ast.Constant(value=int() | float() as number):
            return number
    raise ValueError(f"{ast.unparse(node)} is not known here")
