"""The engine with a step always under way, on the model that counts."""

from __future__ import annotations

import pytest

from miao_worker.engine import sampler
from miao_worker.engine.types import FinishReason


def tokens(outputs):
    return [token for output in outputs for token in output.token_ids]


@pytest.fixture
def events(monkeypatch):
    """What happens, in order: "run" when a step is given to the device, "wait" for its tokens."""
    happened = []

    class Download(sampler.Download):
        def wait(self):
            happened.append("wait")
            return super().wait()

    monkeypatch.setattr(sampler, "Download", Download)
    return happened


@pytest.fixture
def make(make_engine, events):
    def make_one(overlap=True, **settings):
        engine, runner = make_engine(overlap=overlap, **settings)
        run = runner.run

        def noted(batch):
            events.append("run")
            return run(batch)

        runner.run = noted
        return engine, runner

    return make_one


def test_a_step_is_launched_before_the_tokens_of_the_last_are_waited_for(
    make, make_request, drain, events
):
    engine, _ = make()
    engine.add(make_request("a", max_tokens=4))
    assert tokens(drain(engine)["a"]) == [4, 5, 6, 7]
    assert events == ["run", "run", "wait", "run", "wait", "run", "wait", "wait"]


def test_without_overlap_each_step_is_waited_for(make, make_request, drain, events):
    engine, _ = make(overlap=None)  # as on any CPU
    engine.add(make_request("a", max_tokens=3))
    drain(engine)
    assert events == ["run", "wait"] * 3


def test_where_drawing_counts_what_was_said_the_last_step_comes_first(
    make, make_request, drain, events
):
    engine, _ = make()
    engine.add(make_request("a", max_tokens=3, frequency_penalty=0.1))
    assert tokens(drain(engine)["a"]) == [4, 5, 6]
    assert events == ["run", "wait"] * 3


def test_a_step_that_follows_a_stop_token_is_not_reported(make, make_request, drain):
    engine, runner = make()
    engine.add(make_request("a", stop_token_ids=frozenset({5})))
    engine.add(make_request("b", prompt=(20, 21), max_tokens=6))
    outputs = drain(engine)
    assert tokens(outputs["a"]) == [4, 5]
    assert outputs["a"][-1].finish_reason is FinishReason.STOP
    assert tokens(outputs["b"]) == list(range(22, 28))
    assert [decodes for decodes, _ in runner.batches] == [0, 2, 2, 1, 1, 1]
    assert engine.step().stats.num_free_blocks == engine.num_blocks


def test_no_step_is_wasted_where_the_end_is_known(make, make_request, drain):
    engine, runner = make(max_model_length=6)
    engine.add(make_request("a", max_tokens=2))
    engine.add(make_request("b", max_tokens=50))
    outputs = drain(engine)
    assert (tokens(outputs["a"]), tokens(outputs["b"])) == ([4, 5], [4, 5, 6])
    assert [decodes for decodes, _ in runner.batches] == [0, 2, 1]


def test_blocks_of_a_cancelled_sequence_stay_until_its_step_is_done(make, make_request, drain):
    engine, _ = make()
    engine.add(make_request("a", prompt=[1] * 7))
    engine.add(make_request("b", prompt=[9] * 7))
    engine.step()
    engine.cancel("a")
    assert engine._blocks.num_free_blocks == engine.num_blocks - 4
    stats = engine.step().stats
    assert stats.num_free_blocks == engine.num_blocks - 2
    assert set(drain(engine)) == {"b"}


@pytest.mark.parametrize("poison", [39, 40, 43])
def test_a_failure_reaches_nobody_else_and_leaves_no_block_behind(
    make, make_request, drain, poison
):
    engine, runner = make()
    runner.poison = poison
    prompt = range(32, 40)
    engine.add(make_request("ill", prompt=prompt, max_tokens=12))
    engine.add(make_request("a", prompt=range(1, 9)))
    outputs = drain(engine)
    assert tokens(outputs["ill"]) == list(range(40, poison + 1))
    assert outputs["ill"][-1].finish_reason is FinishReason.ERROR
    assert tokens(outputs["a"]) == [9, 10, 11, 12, 13]
    assert set(runner.erased)
    assert engine.step().stats.num_free_blocks == engine.num_blocks
    runner.poison = None
    engine.add(make_request("well", prompt=prompt))
    assert drain(engine)["well"][0].num_cached_tokens == 0


def test_what_was_computed_is_shared_as_without_overlap(make, make_request, drain):
    for overlap in (False, True):
        engine, _ = make(overlap=overlap)
        engine.add(make_request("a", prompt=range(1, 4), max_tokens=10))
        drain(engine)
        engine.add(make_request("b", prompt=range(1, 18), max_tokens=1))
        assert drain(engine)["b"][0].num_cached_tokens == 12, overlap


def test_it_rests_where_there_is_speculation(make, make_request, drain, events):
    class Silent:
        usual_length = 4

        def propose(self, sequences, lengths):
            return [()] * len(sequences)

    engine, _ = make(proposer=Silent())
    engine.add(make_request("a", max_tokens=3))
    drain(engine)
    assert events == ["run", "wait"] * 3
