"""How long a step of the engine takes, as a function of what it computes.

    seconds = base + linear(tokens) + row · rows + chunk · chunks
                   + context · tokens read + attention · pairs

`linear` is convex and piecewise linear: below some number of tokens a step is bound by
reading the weights and costs nearly nothing more for each, above it by arithmetic. All
coefficients are at least 0, so more work never takes less time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one step computes."""

    rows: int = 0  # sequences that decode, one token each
    context: int = 0  # tokens whose keys and values these rows read, together
    chunks: int = 0  # prompts, or parts of prompts
    prompt_tokens: int = 0  # of all chunks
    pairs: float = 0.0  # (token of a chunk, token that it attends to)

    @property
    def tokens(self) -> int:
        """All tokens that go through the model."""
        return self.rows + self.prompt_tokens


@dataclass(frozen=True, slots=True)
class StepTime:
    """The coefficients, all in seconds.

    hinges: (tokens, seconds): from so many tokens of a step on, each further one costs so
        much more than those before it.
    noise: quantiles, evenly spaced, of measured over modelled time; empty: every step takes
        what the formula says.
    """

    base: float
    hinges: tuple[tuple[int, float], ...] = ()
    row: float = 0.0
    context: float = 0.0
    chunk: float = 0.0
    attention: float = 0.0
    noise: tuple[float, ...] = ()

    def linear(self, tokens: int) -> float:
        """The part that follows from the number of tokens alone."""
        return sum(slope * (tokens - begin) for begin, slope in self.hinges if tokens > begin)

    def seconds(self, work: StepWork) -> float:
        """What a step takes, without noise."""
        return (
            self.base
            + self.linear(work.tokens)
            + self.row * work.rows
            + self.context * work.context
            + self.chunk * work.chunks
            + self.attention * work.pairs
        )


class StepClock:
    """Draws the time of step after step; what follows from the tokens alone is kept."""

    def __init__(self, model: StepTime, random: Random) -> None:
        self._model = model
        self._random = random
        self._by_tokens: dict[int, float] = {}

    def seconds(
        self, rows: int, context: int, chunks: int, prompt_tokens: int, pairs: float
    ) -> float:
        """The time of a step; see StepWork."""
        model, tokens = self._model, rows + prompt_tokens
        linear = self._by_tokens.get(tokens)
        if linear is None:
            linear = self._by_tokens[tokens] = model.base + model.linear(tokens)
        seconds = linear + model.row * rows + model.context * context
        if chunks:
            seconds += model.chunk * chunks + model.attention * pairs
        return seconds * self._draw() if model.noise else seconds

    def _draw(self) -> float:
        """A point of the noise's distribution, linear between its quantiles."""
        noise = self._model.noise
        place = self._random.random() * (len(noise) - 1)
        index = int(place)
        low = noise[index]
        return low + (noise[index + 1] - low) * (place - index) if index + 1 < len(noise) else low
