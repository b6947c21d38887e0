"""What the sampler draws, against transformers' logits processors and against itself."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from miao_worker.engine.adjustments import adjusted
from miao_worker.engine.logprobs import LogprobTable
from miao_worker.engine.randomness import uniform
from miao_worker.engine.sampler import Sampler, inverse_cdf
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.truncation import Truncation, truncate_
from miao_worker.engine.types import SamplingParams

CPU = torch.device("cpu")


def sequence(num_tokens=3, **sampling):
    params = SamplingParams(**{"max_tokens": 9, "seed": 0, **sampling})
    return Sequence("s", params, [1] * num_tokens, num_tokens)


def distribution(logits, params):
    """The sampler's distribution over the vocabulary."""
    scores = (logits - logits.max()) / params.temperature
    scores = scores[None].clone()
    truncate_(scores, Truncation.from_params([params], CPU))
    return scores.softmax(-1)[0]


def reference(logits, params):
    """The distribution that transformers' processors make of the logits."""
    processors = LogitsProcessorList([TemperatureLogitsWarper(params.temperature)])
    if params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        processors.append(MinPLogitsWarper(params.min_p))
    return processors(torch.zeros(1, 1, dtype=torch.int64), logits[None].clone()).softmax(-1)[0]


@pytest.mark.parametrize("vocab", [50, 3000])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.3},
        {"temperature": 2.5},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 100_000},
        {"top_p": 0.2},
        {"top_p": 0.9},
        {"top_p": 0.999},
        {"min_p": 0.05},
        {"min_p": 1.0},
        {"top_k": 20, "top_p": 0.8},
        {"top_k": 30, "top_p": 0.9, "min_p": 0.1, "temperature": 0.7},
    ],
)
def test_the_distribution_is_that_of_transformers(vocab, changes):
    torch.manual_seed(vocab)
    params = SamplingParams(**{"max_tokens": 1, "seed": 0, **changes})
    for scale in (0.5, 4.0):  # flat rows need the whole sort, steep ones do not
        logits = scale * torch.randn(vocab)
        torch.testing.assert_close(distribution(logits, params), reference(logits, params))


def test_rows_of_a_batch_keep_their_own_parameters():
    torch.manual_seed(0)
    rows = [
        SamplingParams(1, 0, top_k=3),
        SamplingParams(1, 0, temperature=0.5),
        SamplingParams(1, 0, top_p=0.5, min_p=0.1),
    ]
    logits = torch.randn(3, 40)
    scores = torch.stack([(x - x.max()) / p.temperature for x, p in zip(logits, rows, strict=True)])
    truncate_(scores, Truncation.from_params(rows, CPU))
    for row, params in enumerate(rows):
        expected = reference(logits[row], params)
        torch.testing.assert_close(scores[row].softmax(-1), expected)


def test_inverse_cdf_takes_each_token_as_often_as_it_is_likely():
    torch.manual_seed(0)
    logits = 2 * torch.randn(600)
    uniforms = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    scores = (logits - logits.max()).expand(1000, -1)
    drawn = torch.cat([inverse_cdf(scores, part) for part in uniforms.split(1000)])
    frequencies = torch.bincount(drawn, minlength=600) / 50_000
    assert (frequencies - logits.softmax(-1)).abs().max() < 5e-5


@pytest.mark.parametrize("u", [2.0**-49, 1 - 2.0**-49])
def test_inverse_cdf_never_takes_an_excluded_token(u):
    scores = torch.full((1, 700), -math.inf)
    scores[0, [5, 300]] = torch.tensor([0.0, -1.0])
    token = inverse_cdf(scores, torch.tensor([u], dtype=torch.float64)).item()
    assert token == (5 if u < 0.5 else 300)


def test_the_uniform_depends_on_seed_and_position_alone():
    values = [uniform(seed, position) for seed in range(300) for position in range(300)]
    assert len(set(values)) == len(values)
    assert 0 < min(values) < max(values) < 1
    tenths = [0] * 10
    for value in values:
        tenths[int(value * 10)] += 1
    assert all(abs(count / 9000 - 1) < 0.05 for count in tenths)


def test_the_uniform_stays_what_it_was():
    """A released seed must give the same text for ever."""
    assert uniform(0, 0) == pytest.approx(0.6524484863740323, abs=1e-15)
    assert uniform(42, 1) == pytest.approx(0.9557467261317445, abs=1e-15)
    assert uniform(2**64 - 1, 7) == uniform(-1, 7)


def test_a_row_draws_the_same_alone_and_in_any_batch():
    torch.manual_seed(0)
    logits = torch.randn(5, 1000)
    rows = [
        sequence(4, seed=3, temperature=0.8),
        sequence(9, temperature=0.0),
        sequence(5, seed=1, top_p=0.7),
        sequence(7, seed=8, top_k=12, min_p=0.02),
        sequence(7, seed=3, temperature=1.7),
    ]
    together = [s.token_id for s in Sampler().sample(logits, rows)]
    alone = [Sampler().sample(logits[i : i + 1], [row])[0].token_id for i, row in enumerate(rows)]
    turned = Sampler().sample(logits.flip(0), rows[::-1])[::-1]
    assert together == alone == [s.token_id for s in turned]


def test_greedy_takes_the_likeliest_and_a_tiny_temperature_too():
    logits = torch.tensor([[0.1, 3.0, 2.9], [5.0, 1.0, 4.9]])
    rows = [sequence(temperature=0.0), sequence(temperature=1e-30)]
    assert [s.token_id for s in Sampler().sample(logits, rows)] == [1, 0]


def test_the_parameters_of_a_changed_batch_are_not_those_of_the_last():
    logits = torch.tensor([[0.0, 0.1]]).expand(1, 2)
    sampler = Sampler()
    hot = sequence(num_tokens=2, temperature=1.0, seed=0)
    draws = set()
    for length in range(2, 40):
        draws.add(sampler.sample(logits, [sequence(length, seed=0)])[0].token_id)
    assert draws == {0, 1}
    assert sampler.sample(logits, [sequence(temperature=0.0)])[0].token_id == 1
    assert sampler.sample(logits, [hot])[0].token_id in (0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_not_finite_has_no_token(value, temperature):
    logits = torch.zeros(2, 300)
    logits[0, 7] = value
    rows = [sequence(temperature=temperature, num_logprobs=1), sequence(temperature=temperature)]
    first, second = Sampler().sample(logits, rows)
    assert first.token_id is None
    assert first.logprobs is None
    assert second.token_id is not None


def test_logprobs_are_those_of_the_raw_logits():
    torch.manual_seed(0)
    logits = torch.randn(3, 20)
    expected = logits.log_softmax(-1)
    table = LogprobTable.of(logits, torch.tensor([4, 5, 6]), [None, 0, 2])
    off, chosen, two = table.read([4, 5, 6], table.tensors)
    assert off is None
    assert chosen.logprob == pytest.approx(expected[1, 5].item())
    assert chosen.top == ()
    values, ids = expected[2].topk(2)
    assert [token for token, _ in two.top] == ids.tolist()
    assert [value for _, value in two.top] == pytest.approx(values.tolist())


def test_logits_in_half_precision_are_sampled_in_float32():
    torch.manual_seed(0)
    logits = torch.randn(2, 500).bfloat16()
    rows = [sequence(seed=1, num_logprobs=3), sequence(temperature=0.0)]
    samples = Sampler().sample(logits, rows)
    assert samples[1].token_id == logits[1].float().argmax().item()
    total = sum(math.exp(value) for _, value in samples[0].logprobs.top)
    assert 0 < total < 1


def test_presence_and_frequency_penalties_count_the_output_alone():
    subject = Sequence(
        "s",
        SamplingParams(
            max_tokens=9, seed=0, temperature=0, presence_penalty=0.5, frequency_penalty=0.25
        ),
        [7, 7, 3, 3, 5],  # of which two are the prompt's
        2,
    )
    logits = torch.zeros(1, 10)
    lowered = torch.zeros(10)
    lowered[3], lowered[5] = -0.5 - 2 * 0.25, -0.5 - 0.25
    assert torch.equal(adjusted(logits, [subject])[0], lowered)
    subject.token_ids.append(5)
    lowered[5] -= 0.25
    assert torch.equal(adjusted(logits, [subject])[0], lowered)
    assert torch.equal(logits, torch.zeros(1, 10))


def test_rows_without_adjustments_are_left_as_they_are():
    logits = torch.randn(2, 10)
    assert adjusted(logits, [sequence(), sequence()]) is logits
    biased = sequence(logit_bias=((4, 1.5),))
    result = adjusted(logits, [sequence(), biased])
    assert torch.equal(result[0], logits[0])
    assert result[1, 4] == logits[1, 4] + 1.5
