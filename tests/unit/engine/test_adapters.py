"""Adapters: what is refused, who waits for a place, and that none pays for another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from miao_worker.engine.adapters.files import AdapterWeights, check, load
from miao_worker.engine.adapters.identity import digest_of
from miao_worker.engine.adapters.stack import Part, Site, Stack
from miao_worker.engine.adapters.step import AdapterStep
from miao_worker.engine.adapters.store import AdapterStore
from miao_worker.engine.batch import Batch, Prefill
from miao_worker.engine.errors import AdapterError
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.types import FinishReason, SamplingParams

MODULES = {"layers.0.q": (8, 12), "layers.0.v": (8, 4)}
PREFIX = "base_model.model."


def write(folder: Path, tensors=None, **settings) -> Path:
    folder.mkdir(exist_ok=True)
    wanted = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(wanted))
    if tensors is None:
        tensors = {
            f"{PREFIX}layers.0.q.lora_A.weight": torch.ones(2, 8),
            f"{PREFIX}layers.0.q.lora_B.weight": torch.ones(12, 2),
        }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"rank_pattern": {"q": 3}}, "rank_pattern"),
        ({"alpha_pattern": {"q": 3}}, "alpha_pattern"),
        ({"something_of_tomorrow": 1}, "something_of_tomorrow"),
        ({"r": 0}, "rank"),
        ({"lora_alpha": "2"}, "lora_alpha"),
        ({"r": 3}, "rank 3"),
    ],
)
def test_what_asks_for_more_is_refused_by_name(tmp_path, settings, word) -> None:
    with pytest.raises(AdapterError, match=word):
        check(write(tmp_path / "a", **settings), MODULES)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (f"{PREFIX}lm_head.lora_A.weight", (2, 8)),
        (f"{PREFIX}layers.9.q.lora_A.weight", (2, 8)),
        (f"{PREFIX}layers.0.q.lora_magnitude_vector", (12,)),
        ("layers.0.q.weight", (12, 8)),
        (f"{PREFIX}layers.0.v.lora_A.weight", (2, 9)),
    ],
)
def test_tensors_that_do_not_fit_are_refused(tmp_path, name, shape) -> None:
    with pytest.raises(AdapterError, match="does not fit"):
        check(write(tmp_path / "a", {name: torch.ones(shape)}), MODULES)


def test_pickled_or_missing_weights_are_not_looked_at(tmp_path) -> None:
    folder = write(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="safetensors"):
        check(folder, MODULES)
    with pytest.raises(AdapterError, match="safetensors"):
        digest_of(folder)


def test_a_half_copied_file_is_refused(tmp_path) -> None:
    file = write(tmp_path / "a") / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(AdapterError, match="complete"):
        check(file.parent, MODULES)


def test_scales_are_pefts(tmp_path) -> None:
    for settings, scale in (({}, 2.0), ({"use_rslora": True}, 4 / 2**0.5)):
        folder = write(tmp_path / "a", **settings)
        weights = load(folder, digest_of(folder), MODULES, torch.float32, torch.device("cpu"))
        down, up = weights.pairs["layers.0.q"]
        assert down.shape == (2, 8)
        torch.testing.assert_close(up, torch.full((2, 12), scale))


def test_weights_that_changed_or_are_not_finite_are_not_loaded(tmp_path) -> None:
    folder = write(tmp_path / "a")
    name = digest_of(folder)
    write(folder, lora_alpha=5)
    with pytest.raises(AdapterError, match="changed"):
        load(folder, name, MODULES, torch.float32, torch.device("cpu"))
    names = [f"{PREFIX}layers.0.q.lora_A.weight", f"{PREFIX}layers.0.q.lora_B.weight"]
    write(folder, {names[0]: torch.full((2, 8), torch.inf), names[1]: torch.ones(12, 2)})
    with pytest.raises(AdapterError, match="finite"):
        load(folder, digest_of(folder), MODULES, torch.float32, torch.device("cpu"))


def make_store(places: int, loaded: list[str], broken: tuple[str, ...] = ()) -> AdapterStore:
    def load_one(folder: Path, adapter_id: str) -> AdapterWeights:
        if adapter_id in broken:
            raise AdapterError("its files are gone")
        loaded.append(adapter_id)
        return AdapterWeights(adapter_id, {})

    store = AdapterStore(places, lambda folder: None, load_one)
    for name in "abc":
        store.register(name, Path(name))
    return store


def test_the_least_recently_used_adapter_makes_room_and_one_in_use_never(tmp_path) -> None:
    loaded: list[str] = []
    store = make_store(2, loaded)
    assert store.acquire("a")
    assert store.acquire("b")
    assert not store.acquire("c")
    store.release("a")
    store.release("b")
    assert store.acquire("a")  # still there
    assert store.acquire("c")  # in the place of b
    assert loaded == ["a", "b", "c"]
    store.release("a")
    store.drop("a")
    assert store.acquire("b")
    assert loaded == ["a", "b", "c", "b"]


def run_adapted(make_engine, make_request, store, **settings):
    engine, runner = make_engine(**settings)
    engine._adapters = engine._scheduler._adapters = store
    for name in ("a", "b", "c"):
        engine.add(replace(make_request(name, max_tokens=3), adapter=name))
    engine.add(make_request("plain", max_tokens=3))
    return engine, runner


def test_who_finds_no_place_waits_and_all_are_served(make_engine, make_request, drain) -> None:
    loaded: list[str] = []
    store = make_store(1, loaded)
    engine, runner = run_adapted(make_engine, make_request, store)
    outputs = drain(engine)
    assert {name: len(found) for name, found in outputs.items()} == dict.fromkeys(outputs, 3)
    assert loaded == ["a", "b", "c"]
    assert max(decodes for decodes, _ in runner.batches) <= 2
    assert not any(store._users.values())


def test_one_that_cannot_be_loaded_ends_alone(make_engine, make_request, drain) -> None:
    engine, _ = run_adapted(make_engine, make_request, make_store(3, [], broken=("b",)))
    outputs = drain(engine)
    (failed,) = outputs["b"]
    assert (failed.finish_reason, failed.error) == (FinishReason.ERROR, "its files are gone")
    assert [len(outputs[name]) for name in ("a", "c", "plain")] == [3, 3, 3]


def test_an_unknown_adapter_ends_in_the_next_step(make_engine, make_request, drain) -> None:
    engine, _ = make_engine()
    engine.add(replace(make_request("x"), adapter="nobody"))
    assert drain(engine)["x"][0].finish_reason is FinishReason.ERROR


def test_blocks_are_shared_within_an_adapter_only(make_engine, make_request, drain) -> None:
    engine, _ = make_engine()
    engine._adapters = engine._scheduler._adapters = make_store(3, [])
    prompt = tuple(range(1, 10))
    cached = []
    for number, adapter in enumerate(("a", "b", None, "a", None)):
        engine.add(replace(make_request(str(number), prompt), adapter=adapter))
        cached.append(drain(engine)[str(number)][0].num_cached_tokens)
    assert cached == [0, 0, 0, 8, 8]


def sequence(adapter: str | None, num_tokens: int) -> Sequence:
    return Sequence("s", SamplingParams(max_tokens=1, seed=0), [0] * num_tokens, 1, adapter)


@pytest.mark.parametrize("num_prefilled", [3, 200])
def test_each_row_gets_its_own_adapters_share_and_no_others(num_prefilled) -> None:
    """Of few rows by a mask, of many by adapter; the columns of one may be infinite."""
    torch.manual_seed(0)
    site = Site((Part("q", 0, 12), Part("v", 12, 16)))

    def weights(name: str, **paths: int) -> AdapterWeights:
        sizes = {"q": 12, "v": 4}
        pairs = {p: (torch.randn(r, 8), torch.randn(r, sizes[p])) for p, r in paths.items()}
        return AdapterWeights(name, pairs)

    one, two = weights("one", q=2, v=3), weights("two", v=1)
    huge = AdapterWeights("huge", {"q": (torch.full((1, 8), 3e38), torch.ones(1, 12))})
    prefilled = sequence("two", num_prefilled)
    batch = Batch(
        decodes=[sequence("one", 1), sequence(None, 1), sequence("huge", 1)],
        prefills=[Prefill.of(prefilled, num_prefilled)],
    )
    step = AdapterStep(Stack([one, two, huge]), batch, torch.device("cpu"))
    x = torch.randn(3 + num_prefilled, 8).abs()
    y = torch.zeros(3 + num_prefilled, 16)
    step.add(site, x, y)
    expected = torch.zeros_like(y)
    expected[0, :12] = x[0] @ one.pairs["q"][0].t() @ one.pairs["q"][1]
    expected[0, 12:] = x[0] @ one.pairs["v"][0].t() @ one.pairs["v"][1]
    expected[3:, 12:] = x[3:] @ two.pairs["v"][0].t() @ two.pairs["v"][1]
    rows = [0, 1, *range(3, len(x))]
    torch.testing.assert_close(y[rows], expected[rows])
    assert y[2, :12].isinf().all()
    wanted = [0, 1, 2, len(x) - 1]  # the rows with logits, in the last layer
    chosen = torch.zeros(4, 16)
    step.add(Site(site.parts, is_chosen=True), x[wanted], chosen)
    torch.testing.assert_close(chosen, y[wanted], equal_nan=True)
