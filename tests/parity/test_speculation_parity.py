"""With speculation of any kind the output is the same, token by token, in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from miao_worker.engine.types import SequenceRequest

VOCAB = 211
SAMPLING = [
    {"temperature": 0.9},
    {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2},
    {"temperature": 0.0, "frequency_penalty": 0.8, "logit_bias": ((5, 2.0),)},
    {"temperature": 1.5, "min_p": 0.05, "num_logprobs": 2},
    {"temperature": 0.0},
    {"temperature": 0.0, "presence_penalty": 1.5, "min_tokens": 20},
]


class Prophet:
    """Knows what is to come, and says one token in five wrong."""

    usual_length = 6

    def __init__(self, subject):
        self._subject = subject

    def propose(self, sequences, lengths):
        return [self._propose(q, n) for q, n in zip(sequences, lengths, strict=True)]

    def _propose(self, sequence, num_tokens):
        index = int(sequence.sequence_id) % 10
        done = sequence.num_output_tokens
        said = self._subject.expected[index][done : done + num_tokens]
        return tuple((t + ((index + done + i) % 5 == 0)) % VOCAB for i, t in enumerate(said))


@pytest.fixture(scope="module")
def draft(subject, tmp_path_factory):
    """A model that mostly agrees with the subject."""
    return _blurred(subject, tmp_path_factory)


@pytest.fixture(scope="module")
def llama_draft(llama, tmp_path_factory):
    return _blurred(llama, tmp_path_factory)


def _blurred(subject, tmp_path_factory):
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(subject.folder)
    for parameter in model.parameters():
        parameter.data += 0.02 * parameter.data.std() * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("draft")
    model.save_pretrained(folder)
    return folder


def expected_of(subject):
    return {str(i): tokens for i, tokens in enumerate(subject.expected)}


def all_requests(subject):
    return [subject.request(i) for i in range(len(subject.prompts))]


def assert_some_were_right_and_some_wrong(engine):
    stats = engine.step().stats
    assert 0 < stats.num_accepted_tokens < stats.num_proposed_tokens


@pytest.mark.parametrize("settings", [{}, {"max_batch_tokens": 19}, {"block_size": 1}])
def test_in_a_mixed_batch(subject, run, settings):
    engine = subject.engine(Prophet(subject), free=True, **settings)
    assert run(engine, all_requests(subject)) == expected_of(subject)
    assert_some_were_right_and_some_wrong(engine)


def test_after_preemption(subject, run):
    """Five of the same prompt, which fills its blocks: they all want another at once."""
    size = subject.small_block
    block_bytes = (1 << 20) // subject.engine(block_size=size, cache_bytes=1 << 20).num_blocks
    engine = subject.engine(
        Prophet(subject),
        free=True,
        block_size=size,
        max_model_length=96,
        cache_bytes=112 // size * block_bytes,
        prefix_cache=False,
    )
    twins = [replace(subject.request(2), sequence_id=f"{n}2") for n in range(5)]
    assert len(twins[0].prompt_token_ids) % size == 0
    assert run(engine, twins) == {f"{n}2": subject.expected[2] for n in range(5)}
    assert engine.step().stats.num_preemptions > 0
    assert_some_were_right_and_some_wrong(engine)


def test_after_resume_and_with_what_was_accepted_in_the_prefix_cache(subject, run):
    engine = subject.engine(Prophet(subject), free=True, block_size=subject.small_block)
    assert run(engine, all_requests(subject)) == expected_of(subject)
    requests = [subject.request(i, resume_from=3 * i) for i in range(len(subject.prompts))]
    tokens = run(engine, requests)
    assert tokens == {str(i): subject.expected[i][3 * i :] for i in range(len(subject.prompts))}


def test_with_a_draft_model(subject, draft, run):
    settings = {
        "speculation": "draft",
        "draft_model": str(draft),
        "block_size": subject.small_block,
    }
    engine = subject.engine(free=True, **settings)
    assert run(engine, all_requests(subject)) == expected_of(subject)
    assert_some_were_right_and_some_wrong(engine)
    resumed = [subject.request(i, resume_from=2 * i) for i in range(len(subject.prompts))]
    tokens = run(engine, resumed)  # from the prefix caches of both models
    assert tokens == {str(i): subject.expected[i][2 * i :] for i in range(len(subject.prompts))}


def test_a_draft_model_of_the_same_weights_is_nearly_always_right(subject, run):
    settings = {"speculation": "draft", "draft_model": str(subject.folder)}
    engine = subject.engine(free=True, **settings)
    assert run(engine, all_requests(subject)) == expected_of(subject)
    stats = engine.step().stats
    assert stats.num_accepted_tokens >= 0.95 * stats.num_proposed_tokens > 0


@pytest.fixture(scope="module")
def mixed(llama):
    return [llama.request(i, **{**SAMPLING[i], "seed": 7 * i}) for i in range(len(SAMPLING))]


@pytest.fixture(scope="module")
def plain(llama, mixed, run):
    return run(llama.engine(), mixed)


def test_sampled_and_adjusted_sequences_say_the_same(llama, llama_draft, mixed, plain, run):
    for settings in (
        {"speculation": "draft", "draft_model": str(llama_draft)},
        {"speculation": "draft", "draft_model": str(llama.folder), "max_batch_tokens": 23},
    ):
        engine = llama.engine(free=True, **settings)
        assert run(engine, mixed) == plain
        stats = engine.step().stats
        assert stats.num_accepted_tokens > 0.2 * stats.num_proposed_tokens > 0


def test_a_sampled_sequence_moves_between_engines_with_and_without(llama, mixed, plain, run):
    """As a takeover does: half of the output from one kind of worker, half from the other."""
    settings = {"speculation": "draft", "draft_model": str(llama.folder)}
    for kept in (1, 11):
        resumed = [
            SequenceRequest(
                r.sequence_id, r.prompt_token_ids, r.sampling, plain[r.sequence_id][:kept]
            )
            for r in mixed
        ]
        expected = {key: tokens[kept:] for key, tokens in plain.items()}
        assert run(llama.engine(free=True, **settings), resumed) == expected


def test_prompt_lookup_on_text_that_repeats(llama, run):
    prompt = llama.prompts[1][:9] * 4
    pushed = tuple((token, 6.0) for token in llama.prompts[1][:9])
    request = llama.request(1, max_tokens=40, logit_bias=pushed)
    request = replace(request, prompt_token_ids=prompt)
    (expected,) = run(llama.engine(), [request]).values()
    engine = llama.engine(free=True, speculation="ngram")
    assert run(engine, [request]) == {"1": expected}
    assert engine.step().stats.num_proposed_tokens > 0


def test_a_draft_model_whose_vocabulary_is_padded_otherwise(llama, run, tmp_path):
    """Models of one family share a tokenizer and pad its size differently."""
    for vocab_size in (VOCAB + 13, VOCAB - 3):
        model = AutoModelForCausalLM.from_pretrained(llama.folder)
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
        folder = tmp_path / str(vocab_size)
        model.save_pretrained(folder)
        engine = llama.engine(free=True, speculation="draft", draft_model=str(folder))
        assert run(engine, all_requests(llama)) == expected_of(llama)
        stats = engine.step().stats
        assert stats.num_accepted_tokens > 0.5 * stats.num_proposed_tokens
