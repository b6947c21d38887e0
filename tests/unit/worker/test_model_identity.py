"""What tells models of one name apart."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao_queue.records import Record, Status
from miao_worker.model_identity import vocabulary_digest, weights_digest
from miao_worker.served_models import ServedModels


def save(folder: Path, seed: int) -> Path:
    folder.mkdir()
    weight = torch.randn(300, 300, generator=torch.Generator().manual_seed(seed))
    save_file({"weight": weight}, folder / "model.safetensors")
    return folder


def test_copies_are_the_same_and_other_weights_are_not(tmp_path: Path) -> None:
    first, other = save(tmp_path / "a", 0), save(tmp_path / "b", 1)
    copy = Path(shutil.copytree(first, tmp_path / "c"))
    (copy / "notes.safetensors").write_bytes(b"no part of the model")
    assert weights_digest(str(copy)) == weights_digest(str(first)) != weights_digest(str(other))


def test_weights_in_parts_are_found_by_their_index(tmp_path: Path) -> None:
    folder = save(tmp_path / "a", 0)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    before = weights_digest(str(folder))
    save_file({"weight": torch.ones(300, 300)}, folder / "model-00001-of-00001.safetensors")
    assert weights_digest(str(folder)) != before


def test_a_vocabulary_is_its_tokenizer_and_its_size() -> None:
    assert vocabulary_digest("{}", 5) == vocabulary_digest("{}", 5)
    assert vocabulary_digest("{}", 5) != vocabulary_digest("{}", 6)
    assert vocabulary_digest("{}", 5) != vocabulary_digest("{ }", 5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"vocabulary": ""}, None),
        ({"vocabulary": "v2"}, "vocabulary"),
        ({"weights": "w2"}, None),  # nothing was said yet
        ({"weights": "w2", "tokens": 1}, "weights"),
        ({"weights": "w1", "tokens": 1}, None),
    ],
)
def test_a_worker_goes_on_only_with_what_its_model_began(changes, word) -> None:
    card = ModelCard(name="m", vocabulary_digest="v1", weights_digest="w1")
    record = replace(_record(), **changes)
    fault = ServedModels(card).fault(record)
    assert fault is None if word is None else word in fault


def _record() -> Record:
    return Record(
        generation_id="g",
        request_id="r",
        model="m",
        tenant="t",
        queue="m:normal",
        status=Status.RUNNING,
        attempt=1,
        tokens=0,
        crashes=0,
        crashed_alone=False,
        accept_ms=0,
        deadline_ms=1,
        queue_deadline_ms=1,
        retention_seconds=1,
        accepted=pb.Accepted(),
        worker="w",
        claimed_ms=0,
        first_token_ms=None,
        finished=None,
        vocabulary="v1",
        weights="w1",
    )
