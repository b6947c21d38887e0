"""Whether speculation brings tokens sooner, measured on the engine's own steps.

Tokens that are verified together with others cost little where a step waits for
memory and much where it computes, so it depends on the machine, the model, the
size of the batch and the text. Nothing of that is assumed: for each size of
batch the seconds of plain steps are kept beside the seconds and the tokens of
speculative ones.

    gain = tokens per sequence of a speculative step * plain seconds / its seconds

Where the gain is not above 1, speculation rests, longer each time, and is then
tried again. A class of sizes begins with plain steps, and has one now and then.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

_BASELINE = 3  # plain steps before the first speculative one
_PROBE = 6  # speculative steps before a verdict
_WINDOW = 16  # steps that the figures are taken over
_REFRESH = 64  # speculative steps after which one is plain
_FIRST_REST = 32  # plain steps
_LONGEST_REST = 2048


class Economy:
    """Decides for each batch size whether the next step may speculate."""

    def __init__(self) -> None:
        self._classes: dict[int, _SizeClass] = {}

    def allows(self, num_decodes: int) -> bool:
        """Whether a step of so many sequences may try proposals."""
        return self._class(num_decodes).allows

    def note_plain(self, num_decodes: int, seconds: float) -> None:
        """Learn from a step without proposals."""
        self._class(num_decodes).note_plain(seconds)

    def note_speculative(self, num_decodes: int, num_tokens: int, seconds: float) -> None:
        """Learn from a step with proposals: the tokens of all sequences, and all its time."""
        self._class(num_decodes).note_speculative(num_tokens / num_decodes, seconds)

    def _class(self, num_decodes: int) -> _SizeClass:
        """Sizes within some 30 % of each other share their figures."""
        key = round(3 * math.log(num_decodes))
        return self._classes.setdefault(key, _SizeClass())


@dataclass(slots=True)
class _SizeClass:
    plain_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    trials: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    num_since_plain: int = 0
    skips_next: bool = True  # the first trial after a rest pays for what the rest has missed
    rest: int = _FIRST_REST
    steps_to_rest: int = 0

    @property
    def allows(self) -> bool:
        is_known = len(self.plain_seconds) >= _BASELINE
        return is_known and not self.steps_to_rest and self.num_since_plain < _REFRESH

    @property
    def gain(self) -> float:
        tokens = sum(trial[0] for trial in self.trials)
        seconds = sum(trial[1] for trial in self.trials)
        if seconds <= 0:
            return math.inf
        return tokens * statistics.median(self.plain_seconds) / seconds

    def note_plain(self, seconds: float) -> None:
        self.plain_seconds.append(seconds)
        self.num_since_plain = 0
        self.steps_to_rest = max(0, self.steps_to_rest - 1)

    def note_speculative(self, tokens_per_sequence: float, seconds: float) -> None:
        self.num_since_plain += 1
        if self.skips_next:
            self.skips_next = False
            return
        self.trials.append((tokens_per_sequence, seconds))
        if len(self.trials) < _PROBE:
            return
        if self.gain > 1:
            self.rest = _FIRST_REST
        else:
            self._take_rest()

    def _take_rest(self) -> None:
        self.steps_to_rest = self.rest
        self.rest = min(2 * self.rest, _LONGEST_REST)
        self.trials.clear()
        self.skips_next = True
