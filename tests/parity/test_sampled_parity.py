"""A seed gives the same tokens alone, in a batch, and after a resume."""

from __future__ import annotations

import pytest

SAMPLING = [
    {"temperature": 0.9},
    {"temperature": 1.3, "top_k": 20},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.5, "min_p": 0.05},
    {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.01},
    {"temperature": 0.0},
]


@pytest.fixture(scope="module")
def requests(llama):
    return [llama.request(i, **{**SAMPLING[i], "seed": 7 * i}) for i in range(len(SAMPLING))]


@pytest.fixture(scope="module")
def alone(llama, requests, run):
    return {r.sequence_id: run(llama.engine(), [r])[r.sequence_id] for r in requests}


def test_sampling_departs_from_greedy(llama, alone):
    for index, sampling in enumerate(SAMPLING):
        assert (alone[str(index)] == llama.expected[index]) == (not sampling["temperature"])


def test_a_seed_gives_the_same_tokens_in_a_batch(llama, requests, alone, run):
    assert run(llama.engine(), requests) == alone


def test_a_seed_gives_the_same_tokens_in_chunks_and_after_preemption(llama, requests, alone, run):
    block_bytes = (1 << 20) // llama.engine(cache_bytes=1 << 20).num_blocks
    engine = llama.engine(cache_bytes=7 * block_bytes, max_model_length=96, max_batch_tokens=9)
    assert run(engine, requests) == alone
    assert engine.step().stats.num_preemptions > 0


@pytest.mark.parametrize("kept", [1, 10, 23])
def test_a_resumed_seed_goes_on_as_it_would_have(llama, requests, alone, run, kept):
    resumed = [
        type(r)(r.sequence_id, r.prompt_token_ids, r.sampling, alone[r.sequence_id][:kept])
        for r in requests
    ]
    assert run(llama.engine(), resumed) == {key: tokens[kept:] for key, tokens in alone.items()}


def test_another_seed_gives_other_tokens(llama, alone, run):
    request = llama.request(0, temperature=0.9, seed=1234)
    assert run(llama.engine(), [request])["0"] != alone["0"]


def test_logprobs_are_the_models(llama):
    """The chosen token's logprob under the raw logits, whatever the sampling."""
    engine = llama.engine()
    engine.add(llama.request(1, temperature=0.0, num_logprobs=3, max_tokens=4))
    outputs = []
    while engine.has_unfinished:
        outputs += engine.step().outputs
    for output in outputs:
        (logprobs,) = output.logprobs
        assert logprobs.top[0] == (output.token_ids[0], pytest.approx(logprobs.logprob))
        values = [value for _, value in logprobs.top]
        assert len(values) == 3
        assert values == sorted(values, reverse=True)
