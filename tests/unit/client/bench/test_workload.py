"""What is sent."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Arrival, Closed, Load, Poisson, Traced
from miao_client.bench.plan import Planned, planned, warming
from miao_client.bench.settings import Settings
from miao_client.bench.workload import Workload, plain_ids, read_prompts
from miao_client.prompts import TokenIds
from miao_client.results import DefaultSampling, Model


def model(vocab_size: int = 1000, max_model_length: int = 1024) -> Model:
    return Model(
        name="m",
        architecture="LlamaForCausalLM",
        num_parameters=1,
        dtype="float32",
        max_model_length=max_model_length,
        vocab_size=vocab_size,
        has_chat_template=False,
        default_sampling=DefaultSampling(),
        num_workers=1,
        num_queued=0,
    )


def plan(load: Load, index: int = 0, **fields: Any) -> list[Planned]:
    settings = Settings((load,), **{"seed": 1, "input_tokens": 16} | fields)
    return list(planned(settings, Workload(settings, model()), load, index))


def ids(each: Planned) -> list[int]:
    assert isinstance(each.request.prompt, TokenIds)
    return list(each.request.prompt.ids)


def test_random_prompts_have_their_length_and_no_special_tokens() -> None:
    made = plan(Closed(1), requests=50, input_tokens=40, output_tokens=7)
    assert {len(ids(each)) for each in made} == {40}
    assert all(100 <= token < 900 for each in made for token in ids(each))
    assert len({tuple(ids(each)) for each in made}) == 50
    assert {each.request.max_tokens for each in made} == {7}


@pytest.mark.parametrize(("vocab_size", "expected"), [(1, range(1)), (20, range(2, 18))])
def test_a_small_vocabulary_has_plain_ids_too(vocab_size: int, expected: range) -> None:
    assert plain_ids(model(vocab_size)) == expected


def test_a_seed_decides_the_requests_and_each_load_has_its_own() -> None:
    load = Poisson(5.0)
    assert plan(load, requests=9) == plan(load, requests=9)
    assert plan(load, requests=9) != plan(load, requests=9, seed=2)
    first, second = plan(load, 0, requests=9), plan(load, 1, requests=9)
    assert not {tuple(ids(each)) for each in first} & {tuple(ids(each)) for each in second}
    assert {each.at for each in first}.isdisjoint({each.at for each in second})


def test_warming_sends_other_requests() -> None:
    settings = Settings((Closed(1),), warmup=3, seed=1, input_tokens=16)
    warm = list(warming(settings, Workload(settings, model()), 0))
    assert len(warm) == 3
    assert ids(warm[0]) != ids(plan(Closed(1))[0])


def test_shared_prefixes_are_the_same_for_all_loads() -> None:
    fields: dict[str, Any] = {"prompts": "shared-prefix", "shared_prefix_tokens": 12}
    made = [ids(each) for index in (0, 1) for each in plan(Closed(1), index, requests=5, **fields)]
    assert len({tuple(prompt[:12]) for prompt in made}) == 1
    assert len({tuple(prompt[12:]) for prompt in made}) == 10
    assert {len(prompt) for prompt in made} == {16}


def test_a_trace_goes_before_the_settings() -> None:
    arrivals = (Arrival(0.5, 3, 4), Arrival(1.0), Arrival(2.0, prompt="为什么"))
    first, second, third = plan(Traced("t", arrivals), output_tokens=9)
    assert (first.at, len(ids(first)), first.request.max_tokens) == (0.5, 3, 4)
    assert (second.at, len(ids(second)), second.request.max_tokens) == (1.0, 16, 9)
    assert (third.at, third.request.prompt) == (2.0, "为什么")
    assert plan(Traced("t", arrivals), duration=1.0) == plan(Traced("t", arrivals), requests=1)


def test_a_duration_ends_the_arrivals_and_leaves_a_closed_loop_to_the_clock() -> None:
    times = [each.at for each in plan(Poisson(50.0), duration=2.0)]
    assert 60 < len(times) < 140
    assert all(at is not None and at < 2.0 for at in times)
    settings = Settings((Closed(1),), duration=1.0)
    endless = planned(settings, Workload(settings, model()), Closed(1), 0)
    assert len(list(islice(endless, 1000))) == 1000


def test_prompts_of_a_file_come_in_turn(tmp_path: Path) -> None:
    texts = tmp_path / "p.txt"
    texts.write_text("为什么\n\nhello  \r\n", encoding="utf-8")
    made = plan(Closed(1), requests=3, prompts=str(texts))
    assert [each.request.prompt for each in made] == ["为什么", "hello  ", "为什么"]
    objects = tmp_path / "p.jsonl"
    chat = [{"role": "user", "content": "hi"}]
    objects.write_text(
        '{"prompt": [5, 6], "output_tokens": 3}\n{"prompt": [{"role": "user", "content": "hi"}]}\n'
    )
    made = plan(Closed(1), requests=2, prompts=str(objects), output_tokens=8)
    assert [each.request.prompt for each in made] == [[5, 6], chat]
    assert [each.request.max_tokens for each in made] == [3, 8]


def test_a_file_of_prompts_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(SettingsError) as refusal:
        read_prompts(path)
    assert str(refusal.value) == f'{path}, line 2: "prompt" must be there.'
    path.write_text("\n")
    with pytest.raises(SettingsError, match="has no prompts"):
        read_prompts(path)
    with pytest.raises(SettingsError) as refusal:
        read_prompts(Path("p.csv"))
    assert str(refusal.value) == (
        "--prompts must be random, shared-prefix, or a file whose name ends in .txt or .jsonl, "
        "not p.csv."
    )


def test_what_the_model_cannot_hold_is_refused() -> None:
    settings = Settings((Closed(1),), input_tokens=900, output_tokens=125)
    with pytest.raises(SettingsError) as refusal:
        Workload(settings, model())
    assert str(refusal.value) == (
        "--input-tokens and --output-tokens must be at most 1,024 together, the context of m, "
        "not 1,025."
    )
    with pytest.raises(SettingsError, match="does not say the vocabulary's size of m"):
        Workload(Settings((Closed(1),)), model(vocab_size=0))
