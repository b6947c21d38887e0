"""Steps that overlap, under any load: the output is that of one step after the other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.property.remembering import (
    BLOCK_SIZE,
    NUM_BLOCKS,
    RememberingRunner,
    request_kinds,
    requests_of,
    run,
)

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import SamplingParams, SequenceRequest


def make_engine(overlap, **changes):
    config = EngineConfig("remembering", block_size=BLOCK_SIZE, overlap=overlap, **changes)
    return Engine(config, RememberingRunner())


@settings(max_examples=80, deadline=None)
@given(
    kinds=st.lists(request_kinds, min_size=1, max_size=6),
    arrivals=st.lists(st.integers(0, 12), min_size=6, max_size=6),
    max_batch_tokens=st.sampled_from([3, 8, 64]),
    max_sequences=st.sampled_from([2, 4, 64]),
    prefix_cache=st.booleans(),
    tenants=st.text("ab", max_size=6),
)
def test_the_output_is_that_of_steps_that_do_not_overlap(
    kinds, arrivals, max_batch_tokens, max_sequences, prefix_cache, tenants
):
    requests, times = requests_of(kinds, tenants), arrivals[: len(kinds)]
    changes = {
        "max_batch_tokens": max_batch_tokens,
        "max_sequences": max_sequences,
        "prefix_cache": prefix_cache,
    }
    plain = run(make_engine(overlap=False, **changes), requests, times)
    engine = make_engine(overlap=True, **changes)
    assert run(engine, requests, times) == plain
    stats = engine.step().stats
    assert (stats.num_free_blocks, stats.num_running) == (NUM_BLOCKS, 0)


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(request_kinds, min_size=2, max_size=6),
    cancelled_at=st.lists(st.integers(0, 20), min_size=6, max_size=6),
)
def test_cancelling_changes_nothing_for_the_others(kinds, cancelled_at):
    requests = requests_of(kinds)
    plain = run(make_engine(overlap=False), requests, [0] * len(requests))
    engine = make_engine(overlap=True)
    said = {request.sequence_id: () for request in requests}
    for request in requests:
        engine.add(request)
    for step in range(2000):
        gone = {
            r.sequence_id for r, at in zip(requests[1:], cancelled_at, strict=False) if at == step
        }
        for sequence_id in gone:
            engine.cancel(sequence_id)
        if not engine.has_unfinished:
            break
        for output in engine.step().outputs:
            assert output.sequence_id not in gone
            said[output.sequence_id] += output.token_ids
    assert said["0"] == plain["0"][0]
    for sequence_id, token_ids in said.items():
        assert plain[sequence_id][0][: len(token_ids)] == token_ids
    assert engine.step().stats.num_free_blocks == NUM_BLOCKS


def test_the_tests_above_see_blocks_run_out_and_stops_within_a_step():
    """A property that overlapping never meets would hold for nothing."""
    engine = make_engine(overlap=True, max_sequences=4)
    stops = [frozenset(), frozenset({1, 2})]
    requests = [
        SequenceRequest(str(i), (i % 4,) * 3, SamplingParams(20, i, stop_token_ids=stops[i % 2]))
        for i in range(16)
    ]
    said = run(engine, requests, [0] * 16)
    assert {reason for _, _, reason in said.values()} == {"stop", "length"}
    assert engine.step().stats.num_preemptions > 0
