"""Which adapters a worker finds, and which paths it takes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from miao.internal.v1.queue_pb2 import ModelCard
from miao_worker.adapter_folders import AdapterFolders
from miao_worker.cli import _parser, _settings
from miao_worker.served_models import ServedModels


def put(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


def test_adapters_come_change_and_go(tmp_path: Path) -> None:
    folders = AdapterFolders({"named": put(tmp_path / "elsewhere")}, tmp_path / "all")
    assert list(folders.look()) == ["named"]
    poet = put(tmp_path / "all" / "poet")
    put(tmp_path / "all" / "no good name")
    (tmp_path / "all" / "empty").mkdir()
    first = folders.look()
    assert sorted(first) == ["named", "poet"]
    assert first["poet"].adapter_id == first["named"].adapter_id  # named by its content
    os.utime(put(poet, b"others") / "adapter_model.safetensors", ns=(1, 1))
    assert folders.look()["poet"].adapter_id != first["poet"].adapter_id
    (poet / "adapter_model.safetensors").unlink()
    assert list(folders.look()) == ["named"]


def test_options_name_adapters_and_a_folder(tmp_path: Path) -> None:
    folder = put(tmp_path / "a")
    options = ["--adapter", f"poet={folder}", "--adapter-folder", str(tmp_path)]
    settings = _settings(_parser().parse_args([*options, "--max-adapters", "3"]))
    assert settings.adapters == {"poet": folder}
    assert (settings.adapter_folder, settings.engine.max_adapters) == (tmp_path, 3)
    assert _settings(_parser().parse_args([])).engine.max_adapters == 0


@pytest.mark.parametrize("option", ["--adapter=../x=/tmp", "--adapter=x", "--adapter-folder=/no"])
def test_options_without_sense_are_refused(option: str) -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args([option])


def test_an_adapter_is_a_model_of_its_own_with_queues_of_its_own() -> None:
    base = ModelCard(
        name="m", tokenizer_json="{}", vocabulary_digest="v", weights_digest="w", vocab_size=9
    )
    served = ServedModels(base)
    card = served.add_adapter("poet", "id-1")
    assert (card.name, card.base, card.vocab_size) == ("m:poet", "m", 9)
    assert not card.tokenizer_json
    assert card.weights_digest != base.weights_digest
    assert card.vocabulary_digest == base.vocabulary_digest
    queues = [source.queue for source in served.sources()]
    assert sorted(queues[:2]) == ["m:high", "m:poet:high"]
    assert {served.sources()[0].queue for _ in range(2)} == {"m:high", "m:poet:high"}
    served.remove("m:poet")
    assert [source.model for source in served.sources()] == ["m"] * 3
    assert served.adapter_of("m:poet") == "id-1"  # for what still runs
    assert served.add_adapter("poet", "id-2").weights_digest != card.weights_digest
