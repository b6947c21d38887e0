"""A worker's batch, step by step, as the engine's scheduler makes it.

The same decisions as `miao_worker.engine.scheduler` takes for one tenant (a test compares
them): whoever decodes goes first; what is left of the step's tokens continues prompts, then
admits those that wait, in order; who came last gives its blocks back when they run out.

It is quick since nothing is done for each row in each step. All who decode get one token in
each step, so a sequence's last step is known when it begins, the tokens read grow by the
number of rows, and a sequence needs a block in every `block_size`-th step: counts are enough.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from miao_client.plan.calibration import Limits
from miao_client.plan.request import Request
from miao_client.plan.step_time import StepClock


class GapRecord:
    """The longest gap between two steps, over any steps up to the last."""

    def __init__(self) -> None:
        self._steps: list[int] = []  # going up, and
        self._gaps: list[float] = []  # going down: each is the longest of its step and after

    def add(self, step: int, gap: float) -> None:
        """The tokens of this step came so long after those of the one before."""
        steps, gaps = self._steps, self._gaps
        while gaps and gaps[-1] <= gap:
            gaps.pop()
            steps.pop()
        steps.append(step)
        gaps.append(gap)

    def longest_since(self, step: int) -> float:
        """Of this step and all after it; 0 where there are none."""
        place = bisect_left(self._steps, step)
        return self._gaps[place] if place < len(self._gaps) else 0.0


class Batch:
    """What one engine holds. `begin` and `end` are called in turn, once for each step.

    told: of each first token, each later gap, and each end; see `Told`.
    """

    def __init__(self, limits: Limits, clock: StepClock, told: Told) -> None:
        self._limits = limits
        self._clock = clock
        self._told = told
        self.waiting: deque[Request] = deque()
        self.running: dict[Request, None] = {}  # in the order of admission
        self.prefilling: list[Request] = []  # of the running, in the same order
        self.num_free_blocks = limits.num_blocks
        self.num_preemptions = 0
        self.rows = 0  # that decode
        self.step = 0
        self._max_running = min(limits.max_sequences, limits.max_batch_tokens)
        self._context = 0  # tokens of those that decode
        self._growers = [0] * limits.block_size  # of these, by the phase in which they grow
        self._ends: dict[int, list[Request]] = {}  # by step
        self._chunks: list[tuple[Request, int]] = []  # of the step under way
        self._rows_now = 0  # in the step under way
        self._lasts = 0  # of its chunks: the last token of a prompt that was cut before it
        self._gaps = GapRecord()
        self._last_end = 0.0

    @property
    def num_held(self) -> int:
        """Sequences, running or not."""
        return len(self.running) + len(self.waiting)

    def begin(self) -> float | None:
        """Choose the next step; returns its seconds, None where there is nothing to compute."""
        self._grow()
        self._lasts = 0
        self._rows_now = self.rows
        chunks = self._chunks = []
        budget = self._limits.max_batch_tokens - self.rows
        if self.prefilling:
            budget = self._continue(budget)
        while budget and self.waiting and self._admit(self.waiting[0]):
            request = self.waiting.popleft()
            part = min(budget, request.total - request.computed)
            chunks.append((request, part))
            budget -= part
        if not chunks:
            if not self.rows:
                return None
            return self._clock.seconds(self.rows, self._context, 0, 0, 0.0)
        return self._seconds()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows that decode and prompt tokens, of the step under way."""
        tokens = sum(part for _, part in self._chunks)
        return self._rows_now + self._lasts, tokens - self._lasts

    def end(self, now: float) -> list[Request]:
        """Take the step's tokens; returns those that have ended."""
        rows, ended = self._rows_now, []
        if rows:
            gap = now - self._last_end
            self._gaps.add(self.step, gap)
            self._told.gaps(gap, rows)
            self._context += rows
            for request in self._ends.pop(self.step, ()):
                self._take_out(request, self.step + 1)
                self._told.ended(request, now)
                ended.append(request)
        self.step += 1
        self._last_end = now
        for request, part in self._chunks:
            request.computed += part
            if request.computed == request.total:
                self.prefilling.remove(request)
                request.said += 1
                self._told.began(request, now)
                if request.said == request.output_tokens:
                    del self.running[request]
                    self.num_free_blocks += self._blocks(request.total)
                    self._told.ended(request, now)
                    ended.append(request)
                else:
                    self._join(request)
        self._chunks = []
        return ended

    def take_all(self) -> list[Request]:
        """Everything it holds, with the tokens of the steps that have ended; it is empty then."""
        held = [*self.running, *self.waiting]
        for request in list(self.running):
            self._leave(request)
        self.waiting.clear()
        self._chunks = []
        self._rows_now = 0
        return held

    def _grow(self) -> None:
        """Give a block to each that needs one now, at the cost of those that came last."""
        growers, phase = self._growers, self.step % self._limits.block_size
        while growers[phase] > self.num_free_blocks:
            request = next(reversed(self.running))
            self._leave(request)
            request.computed = 0
            self.waiting.appendleft(request)
            self.num_preemptions += 1
        self.num_free_blocks -= growers[phase]

    def _continue(self, budget: int) -> int:
        """Go on with prompts that were begun; one that lacks its last token alone decodes."""
        for request in self.prefilling:
            if request.total - request.computed == 1:
                self._chunks.append((request, 1))
                self._lasts += 1
        budget -= self._lasts
        for request in self.prefilling:
            left = request.total - request.computed
            if budget and left > 1:
                self._chunks.append((request, min(budget, left)))
                budget -= min(budget, left)
        return budget

    def _admit(self, request: Request) -> bool:
        if len(self.running) >= self._max_running:
            return False
        total = request.prompt_tokens + request.said
        blocks = self._blocks(total)
        # Each running sequence may soon need one more block.
        if blocks + len(self.running) > self.num_free_blocks:
            return False
        self.num_free_blocks -= blocks
        request.total = total
        request.computed = min(request.cached_tokens, total - 1)
        self.running[request] = None
        self.prefilling.append(request)
        return True

    def _join(self, request: Request) -> None:
        """Let it decode from the next step on; its first token is there."""
        tokens, size = request.total + 1, self._limits.block_size
        request.begin_step = self.step
        request.end_step = self.step + request.output_tokens - request.said - 1
        request.phase = (1 - tokens + self.step) % size
        self._growers[request.phase] += 1
        self._ends.setdefault(request.end_step, []).append(request)
        self.rows += 1
        self._context += tokens

    def _leave(self, request: Request) -> None:
        """Out of the batch before its end, with the tokens of the steps that have ended."""
        if request in self.prefilling:
            self.prefilling.remove(request)
            del self.running[request]
            self.num_free_blocks += self._blocks(request.total)
            return
        ends = self._ends[request.end_step]
        ends.remove(request)
        if not ends:
            del self._ends[request.end_step]
        self._take_out(request, self.step)
        request.last = self._last_end + self._told.delay

    def _take_out(self, request: Request, end_step: int) -> None:
        """What it held, counting the steps before `end_step` as done."""
        steps = end_step - request.begin_step
        held = request.total + steps  # tokens that its blocks cover
        del self.running[request]
        self.num_free_blocks += self._blocks(held)
        self._growers[request.phase] -= 1
        self.rows -= 1
        self._context -= held + 1
        request.said += steps
        if steps:
            longest = self._gaps.longest_since(request.begin_step)
            request.longest_gap = max(request.longest_gap, longest)

    def _seconds(self) -> float:
        tokens, pairs = 0, 0.0
        for request, part in self._chunks:
            tokens += part
            pairs += part * (request.computed + (part + 1) / 2)
        return self._clock.seconds(self.rows, self._context, len(self._chunks), tokens, pairs)

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self._limits.block_size)


class Told:
    """Who is told of what callers get."""

    delay = 0.0  # seconds from a step's end to the caller

    def began(self, request: Request, now: float) -> None:
        """A prompt is computed and has brought a token: the first, or the first since a move."""

    def gaps(self, seconds: float, count: int) -> None:
        """So many sequences got a token, so long after their last."""

    def ended(self, request: Request, now: float) -> None:
        """It has all its tokens."""
