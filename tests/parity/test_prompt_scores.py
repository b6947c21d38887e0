"""Log-probabilities of prompt tokens equal those of transformers' own logits, in float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from miao_worker.engine.engine import Engine
from miao_worker.engine.types import FinishReason, SequenceOutput, SequenceRequest, TokenLogprobs

TOP = 3


@pytest.fixture(scope="module")
def tables():  # type: ignore[no-untyped-def]
    """By model and prompt, the log-probabilities of all tokens at each position."""
    cache: dict[tuple[str, int], torch.Tensor] = {}

    def table(subject, index):  # type: ignore[no-untyped-def]
        key = str(subject.folder), index
        if key not in cache:
            model = AutoModelForCausalLM.from_pretrained(
                subject.folder, attn_implementation="eager"
            )
            with torch.inference_mode():
                logits = model(torch.tensor([subject.prompts[index]])).logits[0]
            cache[key] = torch.log_softmax(logits.float(), dim=-1)
        return cache[key]

    return table


def score_request(subject, index: int, score_from: int = 1, **sampling) -> SequenceRequest:  # type: ignore[no-untyped-def]
    wanted = {"max_tokens": 0, "num_prompt_logprobs": TOP, **sampling}
    return replace(subject.request(index, **wanted), score_from=score_from)


def run(
    engine: Engine, requests: Iterable[SequenceRequest]
) -> tuple[dict[str, list[TokenLogprobs]], dict[str, list[SequenceOutput]]]:
    scores: dict[str, list[TokenLogprobs]] = {}
    outputs: dict[str, list[SequenceOutput]] = {}
    for request in requests:
        engine.add(request)
    while engine.has_unfinished:
        for output in engine.step().outputs:
            assert output.error is None, output.error
            scores.setdefault(output.sequence_id, []).extend(output.prompt_logprobs)
            outputs.setdefault(output.sequence_id, []).append(output)
    return scores, outputs


def assert_equal(
    scores: Sequence[TokenLogprobs], table: torch.Tensor, prompt: Sequence[int], start: int = 1
) -> None:
    assert len(scores) == len(prompt) - start
    for position, score in enumerate(scores, start - 1):
        assert score.logprob == pytest.approx(
            float(table[position, prompt[position + 1]]), abs=2e-4
        )
        values, ids = table[position].topk(TOP)
        assert [i for i, _ in score.top] == ids.tolist()
        assert [v for _, v in score.top] == pytest.approx(values.tolist(), abs=2e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"max_batch_tokens": 16}, {"overlap": True, "max_batch_tokens": 24}]
)
def test_in_a_batch_with_generations(subject, tables, settings):
    requests = [
        subject.request(0),
        score_request(subject, 1),
        subject.request(2),
        score_request(subject, 3, temperature=1.0),
        score_request(subject, 5, score_from=30),
    ]
    scores, outputs = run(subject.engine(**settings), requests)
    assert_equal(scores["1"], tables(subject, 1), subject.prompts[1])
    assert_equal(scores["3"], tables(subject, 3), subject.prompts[3])
    assert_equal(scores["5"], tables(subject, 5), subject.prompts[5], start=30)
    for index in ("1", "3", "5"):
        assert outputs[index][-1].finish_reason is FinishReason.LENGTH
        assert not any(output.token_ids for output in outputs[index])
    for index in (0, 2):
        said = [i for output in outputs[str(index)] for i in output.token_ids]
        assert tuple(said) == subject.expected[index]


def test_a_cached_prefix_is_computed_again_where_its_logits_are_wanted(subject, tables):
    """But used up to there."""
    engine = subject.engine()
    run(engine, [subject.request(3)])
    scores, outputs = run(engine, [score_request(subject, 3)])
    assert_equal(scores["3"], tables(subject, 3), subject.prompts[3])
    assert outputs["3"][0].num_cached_tokens == 0
    scores, outputs = run(engine, [score_request(subject, 3, score_from=50)])
    assert_equal(scores["3"], tables(subject, 3), subject.prompts[3], start=50)
    assert outputs["3"][0].num_cached_tokens == 48


def test_a_generation_reports_its_prompt_and_then_says_the_same(subject, tables):
    for settings in ({}, {"max_batch_tokens": 16}, {"speculation": "ngram", "free": True}):
        engine = subject.engine(**settings)
        scores, outputs = run(
            engine, [score_request(subject, 3, max_tokens=24), subject.request(5)]
        )
        assert_equal(scores["3"], tables(subject, 3), subject.prompts[3])
        said = [i for output in outputs["3"] for i in output.token_ids]
        assert tuple(said) == subject.expected[3]
        first = next(i for i, output in enumerate(outputs["3"]) if output.token_ids)
        assert not any(output.prompt_logprobs for output in outputs["3"][first:])


def test_memory_is_bounded_and_preemption_repeats_nothing(llama, tables, monkeypatch):
    monkeypatch.setattr("miao_worker.engine.prompt_scores._MAX_LOGITS", 7 * 211)
    monkeypatch.setattr("miao_worker.engine.prompt_scores._ROWS", 3)
    engine = llama.engine(cache_bytes=8192 * 13, max_model_length=96)
    rows: list[int] = []
    run_model = engine._runner.run

    def counting(batch):  # type: ignore[no-untyped-def]
        rows.append(sum(len(prefill.scored) for prefill in batch.prefills))
        return run_model(batch)

    monkeypatch.setattr(engine._runner, "run", counting)
    requests = [llama.request(i, max_tokens=60) for i in (0, 1)]
    requests += [score_request(llama, i, max_tokens=20) for i in (3, 5)]
    scores, _ = run(engine, requests)
    assert max(rows) == 7
    assert engine._stats().num_preemptions > 0
    for index in (3, 5):
        assert_equal(scores[str(index)], tables(llama, index), llama.prompts[index])
