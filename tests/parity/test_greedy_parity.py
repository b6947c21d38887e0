"""Greedy output in float32 equals transformers' `generate`, token by token."""

from __future__ import annotations


def expected_of(subject, indices=None):
    indices = range(len(subject.prompts)) if indices is None else indices
    return {str(i): subject.expected[i] for i in indices}


def all_requests(subject):
    return [subject.request(i) for i in range(len(subject.prompts))]


def cached(subject):
    """The tokens of prompt 3 that lie in full blocks, its last one excepted."""
    size = subject.small_block
    return (len(subject.prompts[3]) - 1) // size * size


def test_references_differ_from_each_other_and_wander(subject):
    assert len(set(subject.expected)) == len(subject.expected)
    assert max(len(set(tokens)) for tokens in subject.expected) > 8


def test_alone(subject, run):
    engine = subject.engine()
    for index in (1, 3, 4):
        assert run(engine, [subject.request(index)]) == expected_of(subject, [index])


def test_in_a_mixed_batch(subject, run):
    assert run(subject.engine(), all_requests(subject)) == expected_of(subject)


def test_joining_a_batch_under_way(subject, run):
    engine = subject.engine()
    tokens = {}
    for request in all_requests(subject):
        engine.add(request)
        for _ in range(3):
            for output in engine.step().outputs:
                tokens[output.sequence_id] = tokens.get(output.sequence_id, ()) + output.token_ids
    for key, rest in run(engine, []).items():
        tokens[key] = tokens.get(key, ()) + rest
    assert tokens == expected_of(subject)


def test_with_overlapping_steps(subject, run):
    engine = subject.engine(overlap=True, max_batch_tokens=40)
    assert run(engine, all_requests(subject)) == expected_of(subject)


def test_with_chunked_prefill(subject, run):
    engine = subject.engine(max_batch_tokens=7, block_size=subject.small_block)
    assert run(engine, all_requests(subject)) == expected_of(subject)


def test_after_preemption(subject, run):
    size = subject.small_block
    block_bytes = (1 << 20) // subject.engine(block_size=size, cache_bytes=1 << 20).num_blocks
    engine = subject.engine(
        block_size=size,
        max_model_length=96,
        cache_bytes=112 // size * block_bytes,
        prefix_cache=False,
    )
    assert run(engine, all_requests(subject)) == expected_of(subject)
    assert engine.step().stats.num_preemptions > 0


def test_after_prefix_reuse(subject, run):
    engine = subject.engine(block_size=subject.small_block)
    assert run(engine, all_requests(subject)) == expected_of(subject)
    engine.add(subject.request(3))
    first = engine.step().outputs[0]
    assert first.num_cached_tokens == cached(subject)
    rest = run(engine, [])
    assert first.token_ids + rest["3"] == subject.expected[3]


def test_with_a_prefix_shared_within_one_step(subject, run):
    """Cold requests that arrive together: the second reads what the first is just computing."""
    engine = subject.engine(block_size=subject.small_block)
    engine.add(subject.request(3))
    twin = subject.request(3)
    engine.add(type(twin)("twin", twin.prompt_token_ids, twin.sampling))
    first = engine.step().outputs
    assert [output.num_cached_tokens for output in first] == [0, cached(subject)]
    rest = run(engine, [])
    for output in first:
        assert output.token_ids + rest[output.sequence_id] == subject.expected[3]


def test_after_resume_from_partial_output(subject, run):
    requests = [subject.request(i, resume_from=3 * i) for i in range(len(subject.prompts))]
    tokens = run(subject.engine(block_size=subject.small_block), requests)
    assert tokens == {str(i): subject.expected[i][3 * i :] for i in range(len(subject.prompts))}
