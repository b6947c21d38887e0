"""A model too small to be of use is trained in a moment, the same one every time."""

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from training.batches import draw_documents
from training.tasks import draw_task
from training.tokenizer import train_tokenizer
from training.train import Recipe, rate_at, work

TINY = replace(
    Recipe(),
    processes=1,
    tokens=2000,
    batch_tokens=256,
    max_length=128,
    documents=64,
    hidden=16,
    layers=1,
    heads=1,
    kv_heads=1,
    head_size=16,
    intermediate=16,
)


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def _weights(folder: Path, recipe: Recipe) -> bytes:
    texts = (
        "".join(piece.text for piece in document.pieces)
        for document in islice(draw_documents(random.Random(1), frozenset()), 300)
    )
    tokenizer = train_tokenizer(texts, 600, 128)
    folder.mkdir()
    work(0, recipe, tokenizer, frozenset(), (folder / "meeting").as_uri(), folder / "model")
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first = _weights(tmp_path / "a", TINY)
    assert _weights(tmp_path / "b", TINY) == first
    assert _weights(tmp_path / "c", replace(TINY, seed=8)) != first


def test_a_second_stage_goes_on_from_the_first(tmp_path: Path) -> None:
    _weights(tmp_path / "a", TINY)
    first = tmp_path / "a" / "model"
    tokenizer = PreTrainedTokenizerFast.from_pretrained(first)
    recipe = replace(TINY, draw=draw_task, peak_rate=0.0, final_rate=0.0)  # which learns nothing
    meeting = (tmp_path / "meeting").as_uri()
    work(0, recipe, tokenizer, frozenset(), meeting, tmp_path / "b", first)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (first / name).read_bytes()


def test_the_rate_rises_then_falls_to_its_end() -> None:
    recipe = Recipe()
    rising = [rate_at(recipe, step, 0.0) for step in range(recipe.warmup_steps)]
    assert rising == sorted(rising)
    assert rising[-1] == pytest.approx(recipe.peak_rate)
    assert rate_at(recipe, 10_000, 0.5) < recipe.peak_rate
    assert rate_at(recipe, 10_000, 1.0) == pytest.approx(recipe.final_rate)
