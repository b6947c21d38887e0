"""The engine on a model that counts."""

from __future__ import annotations

import pytest

from miao_worker.engine.types import FinishReason

VOCAB = 64


def tokens(outputs):
    return [token for output in outputs for token in output.token_ids]


def test_a_sequence_runs_to_max_tokens(make_engine, make_request, drain):
    engine, _ = make_engine()
    engine.add(make_request("a", max_tokens=4))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == [4, 5, 6, 7]
    assert [o.finish_reason for o in outputs] == [None, None, None, FinishReason.LENGTH]


def test_a_stop_token_is_the_last_of_the_output(make_engine, make_request, drain):
    engine, _ = make_engine()
    engine.add(make_request("a", stop_token_ids=frozenset({5})))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == [4, 5]
    assert outputs[-1].finish_reason is FinishReason.STOP


def test_a_stop_token_in_the_prompt_does_not_stop(make_engine, make_request, drain):
    engine, _ = make_engine()
    engine.add(make_request("a", prompt=(5, 3), stop_token_ids=frozenset({3, 5})))
    assert tokens(drain(engine)["a"]) == [4, 5]


def test_a_full_context_ends_with_length(make_engine, make_request, drain):
    engine, _ = make_engine(max_model_length=6)
    engine.add(make_request("a", max_tokens=50))
    outputs = drain(engine)["a"]
    assert tokens(outputs) == [4, 5, 6]
    assert outputs[-1].finish_reason is FinishReason.LENGTH


def test_resumed_tokens_count_and_are_not_emitted_again(make_engine, make_request, drain):
    engine, _ = make_engine()
    engine.add(make_request("a", output=(4, 5, 6), max_tokens=5))
    assert tokens(drain(engine)["a"]) == [7, 8]


@pytest.mark.parametrize(
    ("output", "stop", "reason"),
    [((4, 5), {5}, FinishReason.STOP), ((4, 5, 6, 7, 8), set(), FinishReason.LENGTH)],
)
def test_a_sequence_resumed_after_its_end_only_ends(
    make_engine, make_request, drain, output, stop, reason
):
    engine, runner = make_engine()
    engine.add(make_request("a", output=output, stop_token_ids=frozenset(stop)))
    (only,) = drain(engine)["a"]
    assert (only.token_ids, only.finish_reason) == ((), reason)
    assert not runner.batches


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"prompt": ()}, "empty"),
        ({"prompt": (1, 64)}, "vocabulary"),
        ({"prompt": (-1,)}, "vocabulary"),
        ({"output": (99,)}, "vocabulary"),
        ({"prompt": (1,) * 60}, "no room"),
        ({"prompt": (1,) * 50, "output": (1,) * 11}, "more than 60"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"num_logprobs": -1}, "num_logprobs"),
    ],
)
def test_a_request_that_cannot_run_ends_with_a_sentence(
    make_engine, make_request, drain, changes, word
):
    engine, _ = make_engine()
    engine.add(make_request("bad", **changes))
    engine.add(make_request("good"))
    outputs = drain(engine)
    assert outputs["bad"][0].finish_reason is FinishReason.ERROR
    assert word in outputs["bad"][0].error
    assert tokens(outputs["good"]) == [4, 5, 6, 7, 8]


def test_an_id_twice_is_the_callers_fault(make_engine, make_request):
    engine, _ = make_engine()
    engine.add(make_request("a"))
    with pytest.raises(ValueError, match="already"):
        engine.add(make_request("a"))


def test_logits_that_are_not_finite_end_one_sequence_alone(make_engine, make_request, drain):
    engine, runner = make_engine()
    runner.poison = 40
    engine.add(make_request("a", prompt=range(1, 9)))
    engine.add(make_request("ill", prompt=range(31, 40)))
    outputs = drain(engine)
    assert outputs["ill"][-1].finish_reason is FinishReason.ERROR
    assert tokens(outputs["ill"]) == [40]
    assert tokens(outputs["a"]) == [9, 10, 11, 12, 13]
    assert len(runner.erased) == 3
    assert engine.step().stats.num_free_blocks == engine.num_blocks


def test_a_failed_sequence_leaves_nothing_in_the_prefix_cache(make_engine, make_request, drain):
    engine, runner = make_engine()
    runner.poison = 40
    prompt = range(32, 41)
    engine.add(make_request("ill", prompt=prompt))
    drain(engine)
    runner.poison = None
    engine.add(make_request("well", prompt=prompt))
    assert drain(engine)["well"][0].num_cached_tokens == 0


def test_cancel_frees_the_blocks_and_reports_nothing_more(make_engine, make_request, drain):
    engine, _ = make_engine()
    for name in "abc":
        engine.add(make_request(name, prompt=[ord(name) % VOCAB] * 7))
    engine.step()
    engine.cancel("b")
    engine.cancel("unknown")
    assert engine.step().stats.num_free_blocks == engine.num_blocks - 2 * 2
    assert set(drain(engine)) == {"a", "c"}


def test_cancel_reaches_waiting_and_rejected_sequences(make_engine, make_request):
    engine, _ = make_engine(max_sequences=1)
    engine.add(make_request("runs"))
    engine.add(make_request("waits"))
    engine.add(make_request("bad", max_tokens=0))
    engine.cancel("waits")
    engine.cancel("bad")
    engine.cancel("runs")
    assert not engine.has_unfinished
    assert engine.step().outputs == ()


def test_long_prompts_are_prefilled_in_chunks_beside_decodes(make_engine, make_request, drain):
    engine, runner = make_engine(max_batch_tokens=8)
    engine.add(make_request("short", max_tokens=6))
    engine.step()
    engine.add(make_request("long", prompt=list(range(20)), max_tokens=1))
    drain(engine)
    assert runner.batches == [(0, 3), (1, 7), (1, 7), (1, 6), (1, 0), (1, 0)]


def test_at_most_max_sequences_run(make_engine, make_request):
    engine, _ = make_engine(max_sequences=2)
    for name in "abcd":
        engine.add(make_request(name))
    stats = engine.step().stats
    assert (stats.num_running, stats.num_waiting) == (2, 2)


def test_blocks_that_run_out_preempt_the_latest_and_nothing_is_lost(
    make_engine, make_request, drain
):
    engine, _ = make_engine(num_blocks=8, max_model_length=30)
    for start in (1, 11, 21):
        engine.add(make_request(str(start), prompt=range(start, start + 5), max_tokens=12))
    outputs = drain(engine)
    for start in (1, 11, 21):
        assert tokens(outputs[str(start)]) == [*range(start + 5, start + 17)]
    stats = engine.step().stats
    assert stats.num_preemptions > 0
    assert stats.num_free_blocks == 8


def test_cached_tokens_are_reported_once(make_engine, make_request, drain):
    engine, _ = make_engine()
    engine.add(make_request("a", prompt=range(10)))
    assert [o.num_cached_tokens for o in drain(engine)["a"]] == [0, None, None, None, None]
    engine.add(make_request("b", prompt=range(10)))
    assert drain(engine)["b"][0].num_cached_tokens == 8


def test_without_the_prefix_cache_nothing_is_shared(make_engine, make_request, drain):
    engine, _ = make_engine(prefix_cache=False)
    for name in "ab":
        engine.add(make_request(name, prompt=range(10)))
        assert drain(engine)[name][0].num_cached_tokens == 0


def test_sequences_of_one_step_share_a_prefix(make_engine, make_request):
    engine, runner = make_engine()
    for name in "abc":
        engine.add(make_request(name, prompt=[*range(8), ord(name) % VOCAB]))
    outputs = engine.step().outputs
    assert [o.num_cached_tokens for o in outputs] == [0, 8, 8]
    assert runner.batches == [(0, 9 + 1 + 1)]


def test_the_engine_says_what_it_is(make_engine):
    engine, _ = make_engine()
    assert (engine.vocab_size, engine.max_model_length) == (64, 60)
    assert (engine.num_blocks, engine.block_size, engine.token_capacity) == (32, 4, 128)
    assert (engine.dtype, engine.device) == ("float32", "cpu")


def test_ten_thousand_waiting_do_not_slow_a_step(make_engine, make_request):
    """The scheduler looks at the head of the queue alone."""
    engine, _ = make_engine(max_sequences=1)
    for i in range(10_000):
        engine.add(make_request(str(i)))
    lines = engine._scheduler._waiting._lines
    looked_at = 0

    class Counting(type(lines[""])):
        def values(self):
            nonlocal looked_at
            for sequence in super().values():
                looked_at += 1
                yield sequence

    lines[""] = Counting(lines[""])
    looked_at = 0
    engine.step()
    engine.step()
    assert 1 <= looked_at <= 4
