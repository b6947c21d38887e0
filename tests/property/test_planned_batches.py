"""The planner's batches are those of the engine's scheduler, step by step."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from miao_client.plan.calibration import Limits
from miao_client.plan.request import Request
from miao_client.plan.step_time import StepClock, StepTime
from miao_client.plan.worker import Batch, Told
from miao_worker.engine.block_manager import BlockManager
from miao_worker.engine.scheduler import Scheduler
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import SamplingParams

Arrival = tuple[int, int, int]  # the step before which it comes, prompt, output
Step = tuple[int, ...]  # decodes, prompt tokens, tokens that come, then who ends

MAX_STEPS = 2000


class Counted(Told):
    """Remembers how many got a token in a step, and who ended."""

    def __init__(self) -> None:
        self.names: list[int] = []
        self.tokens = 0

    def began(self, request: Request, now: float) -> None:
        self.tokens += 1

    def gaps(self, seconds: float, count: int) -> None:
        self.tokens += count

    def ended(self, request: Request, now: float) -> None:
        self.names.append(request.number)


def engine_steps(arrivals: list[Arrival], limits: Limits) -> tuple[list[Step], int]:
    """What the engine's scheduler computes, and who ends."""
    blocks = BlockManager(limits.num_blocks, limits.block_size, prefix_cache=False)
    scheduler = Scheduler(blocks, limits.max_sequences, limits.max_batch_tokens)
    steps, coming = [], list(enumerate(arrivals))
    for number in range(MAX_STEPS):
        while coming and coming[0][1][0] <= number:
            index, (_, prompt, output) = coming.pop(0)
            sampling = SamplingParams(max_tokens=output, seed=0)
            scheduler.add(Sequence(str(index), sampling, [1] * prompt, prompt))
        if not coming and not scheduler.has_unfinished:
            return steps, scheduler.num_preemptions
        batch = scheduler.schedule()
        batch.mark_computed()
        ended = []
        for sequence in batch.sampled:
            sequence.learn(1)
            if sequence.finish_reason(limits.max_model_length) is not None:
                scheduler.remove(sequence.sequence_id)
                ended.append(int(sequence.sequence_id))
        prompt_tokens = sum(prefill.num_tokens for prefill in batch.prefills)
        steps.append((len(batch.decodes), prompt_tokens, len(batch.sampled), *sorted(ended)))
    raise AssertionError("the scheduler does not come to an end")


def planned_steps(arrivals: list[Arrival], limits: Limits) -> tuple[list[Step], int]:
    """What the planner says."""
    told = Counted()
    batch = Batch(limits, StepClock(StepTime(1.0), Random(0)), told)
    steps, coming = [], list(enumerate(arrivals))
    for number in range(MAX_STEPS):
        while coming and coming[0][1][0] <= number:
            index, (_, prompt, output) = coming.pop(0)
            batch.waiting.append(Request(index, 0.0, prompt, output))
        if not coming and not batch.num_held:
            assert batch.num_free_blocks == limits.num_blocks
            assert batch.rows == 0
            return steps, batch.num_preemptions
        seconds = batch.begin()
        rows, prompt_tokens = batch.shape
        told.names, told.tokens = [], 0
        if seconds is not None:
            batch.end(number + 1.0)
        steps.append((rows, prompt_tokens, told.tokens, *sorted(told.names)))
    raise AssertionError("the plan does not come to an end")


@st.composite
def loads(draw: st.DrawFn) -> tuple[list[Arrival], Limits]:
    block_size = draw(st.sampled_from([1, 2, 4, 16]))
    limits = Limits(
        max_sequences=draw(st.integers(1, 8)),
        max_batch_tokens=draw(st.integers(1, 40)),
        block_size=block_size,
        num_blocks=draw(st.integers(-(-64 // block_size), -(-160 // block_size))),
        max_model_length=64,
    )
    arrival = st.tuples(st.integers(0, 30), st.integers(1, 40), st.integers(1, 24))
    return sorted(draw(st.lists(arrival, min_size=1, max_size=25))), limits


@settings(max_examples=150, deadline=None)
@given(loads())
def test_each_step_computes_what_the_engines_scheduler_would(
    load: tuple[list[Arrival], Limits],
) -> None:
    arrivals, limits = load
    assert planned_steps(arrivals, limits) == engine_steps(arrivals, limits)


def test_the_comparison_meets_preemption_and_cut_prompts() -> None:
    limits = Limits(
        max_sequences=6, max_batch_tokens=16, block_size=4, num_blocks=16, max_model_length=64
    )
    arrivals = [(0, 20, 20), (0, 17, 24), (1, 30, 9), (2, 3, 24), (2, 1, 12), (3, 33, 2)]
    planned, num_preemptions = planned_steps(arrivals, limits)
    assert (planned, num_preemptions) == engine_steps(arrivals, limits)
    assert num_preemptions > 0
    assert max(prompt_tokens for _, prompt_tokens, *_ in planned) == 16
