"""What docs/engines.md promises of an engine, tried on each."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from miao_worker.engine.encoder.types import EncoderInput, EncoderTask, EncodingRequest
from miao_worker.engine.errors import AdapterError, ModelLoadError
from miao_worker.engine.protocol import EngineSettings, ServingEngine
from miao_worker.engine.types import EngineStats, FinishReason, SamplingParams, SequenceRequest
from miao_worker.engine_kinds import LoadedEngine, kind_of
from tests.integration.conftest import tiny_tokenizer

from .conftest import (
    BLOCK_SIZE,
    MAX_LENGTH,
    MAX_SEQUENCES,
    Said,
    collect,
    greedy,
    prompt_of,
    request_of,
    run,
    settings_of,
)

LENGTHS = (1, 3, 17, 40, 70, 33, 90, 5)  # the longer ones take several steps to be computed
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampled": {"temperature": 1.0},
    "truncated": {"temperature": 0.8, "top_p": 0.8, "top_k": 30, "min_p": 0.02},
    "hot": {"temperature": 3.0, "top_k": 5},
    "penalised": {
        "temperature": 0.9,
        "repetition_penalty": 1.3,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.3,
    },
    "greedily-penalised": {"repetition_penalty": 1.5},
    "biased": {"logit_bias": ((7, 4.0), (9, -100.0), (200, 3.5))},
    "banned": {"bad_token_ids": tuple((i,) for i in range(3, 200, 3)) + ((10, 11), (50, 52, 55))},
    "held-back": {
        "temperature": 1.0,
        "min_tokens": 9,
        "stop_token_ids": frozenset(range(0, 400, 2)),
    },
}
JSON = json.dumps(
    {
        "grammars": [
            {
                "json_schema": {
                    "type": "object",
                    "properties": {"a": {"type": "integer", "maximum": 99, "minimum": 0}},
                    "required": ["a"],
                    "additionalProperties": False,
                    "x-guidance": {"whitespace_flexible": False},
                }
            }
        ]
    }
)


def test_greedy_tokens_are_transformers_alone_and_in_a_batch(
    engine: ServingEngine, model: PreTrainedModel
) -> None:
    prompts = {str(i): prompt_of(i, length) for i, length in enumerate(LENGTHS)}
    together = run(engine, [request_of(name, prompt) for name, prompt in prompts.items()])
    for name, prompt in prompts.items():
        assert together[name].token_ids == greedy(model, prompt, 24)
        assert together[name].reason is FinishReason.LENGTH
    alone = run(engine, [request_of("alone", prompts["3"])])["alone"]
    assert alone.token_ids == together["3"].token_ids


@pytest.mark.parametrize("way", WAYS)
def test_however_tokens_are_chosen_they_are_the_same_on_every_engine(
    engine: ServingEngine, reference: ServingEngine, way: str
) -> None:
    """Also in a batch of all ways at once, and with neighbours that come and go."""
    others = [request_of(f"other{i}", prompt_of(9, 8), **WAYS[w]) for i, w in enumerate(WAYS)]
    mine = [
        request_of(str(i), prompt_of(i, length), seed=i, **WAYS[way])
        for i, length in enumerate((4, 30))
    ]
    said, expected = run(engine, [*others[:4], *mine, *others[4:]]), run(reference, mine)
    for name, each in expected.items():
        assert (said[name].token_ids, said[name].reason) == (each.token_ids, each.reason)


@pytest.mark.parametrize("way", WAYS)
def test_a_sequence_goes_on_behind_what_was_said_as_if_nothing_had_been(
    engine: ServingEngine, way: str
) -> None:
    prompts = {str(i): prompt_of(i, 5 + 9 * i) for i in range(4)}
    asked = {name: {"seed": len(prompt), **WAYS[way]} for name, prompt in prompts.items()}
    whole = run(engine, [request_of(n, prompts[n], **asked[n]) for n in prompts])
    cuts = {name: (1, 2, 7, len(whole[name].token_ids) - 1)[int(name)] for name in prompts}
    rest = run(
        engine,
        [
            request_of(n, prompts[n], output=whole[n].token_ids[: cuts[n]], **asked[n])
            for n in prompts
        ],
    )
    for name, cut in cuts.items():
        assert whole[name].token_ids[:cut] + rest[name].token_ids == whole[name].token_ids
        assert rest[name].reason is whole[name].reason


def test_what_had_all_its_tokens_ends_without_another(engine: ServingEngine) -> None:
    full = request_of("full", prompt_of(1, 4), output=range(10, 20), max_tokens=10)
    stopped = request_of(
        "stopped", prompt_of(1, 4), output=(9, 8), stop_token_ids=frozenset({8}), temperature=1.0
    )
    said = run(engine, [full, stopped])
    assert (said["full"].token_ids, said["full"].reason) == ([], FinishReason.LENGTH)
    assert (said["stopped"].token_ids, said["stopped"].reason) == ([], FinishReason.STOP)


def test_the_same_seed_says_the_same_and_another_something_else(engine: ServingEngine) -> None:
    options = {"temperature": 1.0, "max_tokens": 30}
    seeds = {"a": 1, "b": 1, "c": 2, "big": 2**64 - 1, "big too": 2**64 - 1}
    said = run(
        engine, [request_of(n, prompt_of(2, 6), seed=s, **options) for n, s in seeds.items()]
    )
    assert said["a"].token_ids == said["b"].token_ids != said["c"].token_ids
    assert said["big"].token_ids == said["big too"].token_ids


def test_a_stop_token_ends_a_sequence_and_is_its_last(
    engine: ServingEngine, model: PreTrainedModel
) -> None:
    tokens = greedy(model, prompt_of(3, 7), 24)
    stop = tokens[9]
    said = run(engine, [request_of("s", prompt_of(3, 7), stop_token_ids=frozenset({stop}))])["s"]
    assert said.token_ids == tokens[: tokens.index(stop) + 1]
    assert said.reason is FinishReason.STOP


def test_ends_of_the_models_own_count_only_where_they_are_asked_for(
    engine: ServingEngine, loaded: LoadedEngine
) -> None:
    (eos,) = loaded.card.eos_token_ids
    biased = {"logit_bias": ((eos, 100.0),), "max_tokens": 5}
    kept = request_of("kept", prompt_of(1, 5), **biased)
    ended = request_of("ended", prompt_of(1, 5), stop_token_ids=frozenset({eos}), **biased)
    said = run(engine, [kept, ended])
    assert (said["kept"].token_ids, said["kept"].reason) == ([eos] * 5, FinishReason.LENGTH)
    assert (said["ended"].token_ids, said["ended"].reason) == ([eos], FinishReason.STOP)


def test_the_context_ends_a_sequence(engine: ServingEngine) -> None:
    said = run(engine, [request_of("long", prompt_of(4, MAX_LENGTH - 6), max_tokens=100)])["long"]
    assert (len(said.token_ids), said.reason) == (6, FinishReason.LENGTH)


def test_log_probabilities_are_the_models_own(
    engine: ServingEngine, model: PreTrainedModel
) -> None:
    """Whatever changes the choice, and however many the neighbours ask for."""
    prompt = prompt_of(5, 20)
    asked = request_of("l", prompt, temperature=1.0, top_k=3, repetition_penalty=1.4)
    said = run(
        engine,
        [
            SequenceRequest("l", prompt, replace(asked.sampling, num_logprobs=2)),
            request_of("more", prompt_of(6, 9), num_logprobs=7, max_tokens=9),
            request_of("none", prompt_of(7, 9), num_logprobs=0),
            request_of("plain", prompt_of(8, 9)),
        ],
    )
    mine = said["l"]
    table = _log_probabilities(model, [*prompt, *mine.token_ids])[len(prompt) - 1 : -1]
    assert len(mine.logprobs) == len(mine.token_ids) == 24
    for token_id, found, row in zip(mine.token_ids, mine.logprobs, table, strict=True):
        assert found.logprob == pytest.approx(float(row[token_id]), abs=1e-4)
        values, ids = row.topk(2)
        assert [i for i, _ in found.top] == ids.tolist()
        assert [v for _, v in found.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert {len(each.top) for each in said["more"].logprobs} == {7}
    assert {len(each.top) for each in said["none"].logprobs} == {0}
    assert said["plain"].logprobs == []


@pytest.mark.parametrize("max_tokens", [0, 3])
def test_prompts_are_scored(engine: ServingEngine, model: PreTrainedModel, max_tokens: int) -> None:
    prompt = prompt_of(6, 90)
    options = {"num_prompt_logprobs": 2, "max_tokens": max_tokens}
    run(engine, [request_of("before", prompt)])  # its blocks may be there
    said = run(
        engine,
        [
            request_of("all", prompt, **options),
            request_of("rest", prompt, score_from=41, **options),
        ],
    )
    table = _log_probabilities(model, list(prompt))[:-1]
    expected = [float(row[token]) for row, token in zip(table, prompt[1:], strict=True)]
    assert [each.logprob for each in said["all"].scores] == pytest.approx(expected, abs=1e-4)
    assert [each.logprob for each in said["rest"].scores] == pytest.approx(expected[40:], abs=1e-4)
    assert [i for i, _ in said["all"].scores[7].top] == table[7].topk(2).indices.tolist()
    for each in said.values():
        assert each.token_ids == greedy(model, prompt, max_tokens) if max_tokens else True
        assert (len(each.token_ids), each.reason) == (max_tokens, FinishReason.LENGTH)


def test_more_than_there_are_rows_and_memory_for_all_come_to_their_end(
    engine: ServingEngine, model: PreTrainedModel, reference: ServingEngine
) -> None:
    """Twelve sequences of 60 to 82 tokens, where the cache holds 384; every other one is drawn."""
    requests = {
        str(i): request_of(
            str(i),
            prompt_of(i, 20 + 2 * i),
            max_tokens=40,
            seed=i,
            **WAYS["penalised"] if i % 2 else {},
        )
        for i in range(12)
    }
    seen: list[EngineStats] = []
    said = {name: Said() for name in requests}
    for request in requests.values():
        engine.add(request)
    collect(engine, said, lambda stats: seen.append(stats) is not None)
    drawn = run(reference, [requests[str(i)] for i in range(1, 12, 2)])
    for i, (name, request) in enumerate(requests.items()):
        expected = drawn[name].token_ids if i % 2 else greedy(model, request.prompt_token_ids, 40)
        assert said[name].token_ids == expected
    assert max(stats.num_running for stats in seen) <= MAX_SEQUENCES
    assert max(stats.num_waiting for stats in seen) >= 12 - MAX_SEQUENCES
    assert seen[-1].num_preemptions > seen[0].num_preemptions


def test_a_cancel_frees_what_was_held_and_says_nothing_more(engine: ServingEngine) -> None:
    ids = [str(i) for i in range(MAX_SEQUENCES + 2)]  # the last two wait
    said = {name: Said() for name in ids}
    for i, name in enumerate(ids):
        engine.add(request_of(name, prompt_of(i, 8), max_tokens=100, temperature=1.0))
    collect(engine, said, lambda _: len(said["0"].token_ids) >= 3)
    for name in [*ids[:-1], "unknown"]:
        engine.cancel(name)
    before = [list(said[name].token_ids) for name in ids[:-1]]
    stats = engine.step().stats
    assert (stats.num_running, stats.num_waiting) == (1, 0)
    assert stats.num_free_blocks >= stats.num_blocks - 1
    engine.cancel(ids[-1])
    assert not engine.has_unfinished
    assert [said[name].token_ids for name in ids[:-1]] == before
    again = run(engine, [request_of("0", prompt_of(0, 8), max_tokens=2)])  # the id is free
    assert len(again["0"].token_ids) == 2


def test_a_beginning_that_is_known_is_not_computed_again(engine: ServingEngine) -> None:
    prompt = prompt_of(15, 3 * BLOCK_SIZE + 5)
    first = run(engine, [request_of("first", prompt, cache_scope=b"one")])["first"]
    second = run(engine, [request_of("second", prompt, cache_scope=b"one")])["second"]
    other = run(engine, [request_of("other", prompt, cache_scope=b"two")])["other"]
    assert (first.num_cached_tokens, other.num_cached_tokens) == (0, 0)
    assert second.num_cached_tokens == 3 * BLOCK_SIZE
    assert first.token_ids == second.token_ids == other.token_ids


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"prompt": ()}, "empty"),
        ({"prompt": prompt_of(0, MAX_LENGTH)}, "no room"),
        ({"prompt": (5, 4000)}, "vocabulary"),
        ({"output": (4000,)}, "vocabulary"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"min_tokens": 30}, "min_tokens"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty"),
        ({"logit_bias": ((4000, 1.0),)}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"grammar": "start: no_such_rule"}, "grammar"),
    ],
)
def test_what_cannot_run_ends_with_a_sentence_and_disturbs_nobody(
    engine: ServingEngine, model: PreTrainedModel, options: dict[str, Any], word: str
) -> None:
    bad = request_of("bad", options.pop("prompt", prompt_of(1, 5)), **options)
    said = run(engine, [request_of("good", prompt_of(1, 5)), bad])
    assert said["bad"].reason is FinishReason.ERROR
    assert word in str(said["bad"].error)
    assert said["good"].token_ids == greedy(model, prompt_of(1, 5), 24)


def test_what_only_other_engines_do_is_refused(engine: ServingEngine, tmp_path: Path) -> None:
    adapted = SequenceRequest("a", (5, 6), SamplingParams(4, 1), adapter="none")
    engine.add(adapted)
    encoding = EncodingRequest("e", EncoderTask.EMBED, (EncoderInput((5, 6)),))
    engine.add(encoding)
    said = {"a": Said(), "e": Said()}
    collect(engine, said)
    assert "adapter" in str(said["a"].error)
    assert "generates" in str(said["e"].error)
    with pytest.raises(AdapterError):
        engine.register_adapter("none", tmp_path)
    engine.drop_adapter("none")


def test_an_id_is_one_sequences(engine: ServingEngine) -> None:
    engine.add(request_of("a", prompt_of(1, 5)))
    with pytest.raises(ValueError, match="already"):
        engine.add(request_of("a", prompt_of(2, 5)))
    engine.cancel("a")


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_output_follows_its_grammar_also_when_it_goes_on_elsewhere(
    engine: ServingEngine, reference: ServingEngine, temperature: float
) -> None:
    tokenizer = tiny_tokenizer()
    options = {"grammar": JSON, "temperature": temperature, "max_tokens": 30}
    asked = [request_of(str(i), prompt_of(i, 6), seed=i, **options) for i in range(4)]
    said = run(engine, [*asked, request_of("free", prompt_of(9, 9), temperature=1.0)])
    for i, request in enumerate(asked):
        mine = said[str(i)]
        text = tokenizer.decode(mine.token_ids, skip_special_tokens=True)
        assert re.fullmatch(r'\{"a":\d\d?\}', text), text
        assert mine.reason is FinishReason.STOP
        cut = mine.token_ids[: i + 1]
        rest = run(engine, [request_of("r", prompt_of(i, 6), output=cut, seed=i, **options)])["r"]
        assert cut + rest.token_ids == mine.token_ids
        assert run(reference, [request])[str(i)].token_ids == mine.token_ids


def test_a_grammar_that_max_tokens_cannot_hold_is_refused(engine: ServingEngine) -> None:
    said = run(engine, [request_of("g", prompt_of(1, 6), grammar=JSON, max_tokens=2)])["g"]
    assert said.reason is FinishReason.ERROR
    assert "max_tokens" in str(said.error)


def test_a_sequence_that_waits_for_its_grammar_can_be_cancelled(engine: ServingEngine) -> None:
    engine.add(request_of("g", prompt_of(1, 6), grammar=JSON))
    engine.cancel("g")
    assert not engine.has_unfinished


def test_the_card_says_what_the_model_is(loaded: LoadedEngine) -> None:
    card = loaded.card
    assert (card.name, card.dtype, card.max_model_length) == ("tiny", "float32", MAX_LENGTH)
    assert card.guide_fault == ""
    assert card.weights_digest
    assert card.explain_methods


def test_a_model_that_is_not_there_is_one_sentence(kind: str, tmp_path: Path) -> None:
    settings = settings_of(kind, tmp_path / "nothing")
    with pytest.raises(ModelLoadError, match="nothing") as caught:
        kind_of(settings).load(settings, "tiny", None)
    assert "\n" not in str(caught.value)


def test_settings_say_how_many_sequences_fit(settings: EngineSettings) -> None:
    assert (settings.max_sequences, settings.max_adapters) == (MAX_SEQUENCES, 0)
    assert not settings.speculates


def _log_probabilities(model: PreTrainedModel, token_ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([token_ids])).logits[0]
    return torch.log_softmax(logits.float(), dim=-1)
