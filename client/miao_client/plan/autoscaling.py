"""How many workers an autoscaler asks for: Kubernetes' rule, with KEDA's for zero.

The horizontal autoscaler wants `ceil(work / target)` workers, leaves what is within its
tolerance, at most doubles or adds four at a time, and goes down only to the most that it
wanted within the time it holds (kubernetes.io, "Horizontal Pod Autoscaling"). Between zero and
one KEDA decides: one as soon as there is work, zero when there was none for a while.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields

from miao_client.plan.errors import PlanError

_TOLERANCE = 0.1  # of the target, within which nothing changes
_MOST_ADDED = 4  # at a time, or as many as there are


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """The rule's numbers.

    target: generations a worker should have, waiting and running together.
    hold_seconds: going down waits so long, in case more is wanted again.
    idle_seconds: without any work until the last worker goes, where `least` is 0.
    """

    least: int
    most: int
    target: float
    poll_seconds: float = 15.0
    hold_seconds: float = 300.0
    idle_seconds: float = 300.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 0 <= self.least <= self.most or self.most < 1:
            raise PlanError(
                f"--autoscale must be LEAST:MOST with 0 <= LEAST <= MOST and MOST at least 1, "
                f"not {self.least}:{self.most}."
            )
        for each in fields(self):
            if each.name.endswith("_seconds") and not 0 <= getattr(self, each.name) < math.inf:
                raise PlanError(f"{each.name} must be 0 or more, not {getattr(self, each.name)}.")
        if not (0 < self.target < math.inf and self.poll_seconds > 0):
            raise PlanError("--autoscale-target and --autoscale-poll must be above 0.")


class Autoscaler:
    """Follows the fleet from poll to poll."""

    def __init__(self, rule: Autoscaling) -> None:
        self._rule = rule
        self._wanted: deque[tuple[float, int]] = deque()  # within the time that is held
        self._had_work_at = 0.0

    def wants(self, now: float, work: int, workers: int) -> int:
        """How many workers there should be; `workers` counts those that start, too."""
        rule = self._rule
        if work:
            self._had_work_at = now
        if workers == 0:
            self._wanted.clear()
            return max(rule.least, min(1, work))
        if rule.least == 0 and not work and now - self._had_work_at >= rule.idle_seconds:
            return 0
        self._note(now, self._clamped(work, workers))
        most = max(wanted for _, wanted in self._wanted)
        latest = self._wanted[-1][1]
        return latest if latest >= workers else min(workers, most)

    def _clamped(self, work: int, workers: int) -> int:
        rule = self._rule
        ratio = work / (rule.target * workers)
        wanted = workers if abs(ratio - 1) <= _TOLERANCE else math.ceil(work / rule.target)
        wanted = min(wanted, max(2 * workers, workers + _MOST_ADDED))
        return min(rule.most, max(rule.least, 1, wanted))

    def _note(self, now: float, wanted: int) -> None:
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - self._rule.hold_seconds:
            self._wanted.popleft()
