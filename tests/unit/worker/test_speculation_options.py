"""The options of speculation, on `miao worker` and on `miao up`."""

from __future__ import annotations

import shutil

import pytest

from miao_worker import cli, up
from miao_worker.batch_worker import stats_line
from miao_worker.bundled import bundled_model_path
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.errors import ModelLoadError
from miao_worker.engine.types import EngineStats
from miao_worker.model_card import check_draft_vocabulary


def engine_of(*options: str) -> EngineConfig:
    return cli._settings(cli._parser().parse_args(list(options))).engine


def test_speculation_is_off_unless_asked_for() -> None:
    config = engine_of()
    assert (config.speculation, config.draft_model, config.num_speculative_tokens) == (
        "off",
        None,
        None,
    )


def test_the_options_reach_the_engine() -> None:
    config = engine_of("--speculate", "ngram", "--num-speculative-tokens", "5")
    assert (config.speculation, config.num_speculative_tokens) == ("ngram", 5)
    config = engine_of("--draft-model", "miao-tiny")
    assert config.speculation == "draft"
    assert config.draft_model == str(bundled_model_path())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--num-speculative-tokens", "3"], "needs --speculate ngram or --draft-model"),
        (["--speculate", "ngram", "--num-speculative-tokens", "33"], "between 1 and 32"),
        (["--speculate", "ngram", "--num-speculative-tokens", "0"], "at least 1"),
        (["--speculate", "ngram", "--draft-model", "x"], "not allowed with"),
        (["--speculate", "medusa"], "invalid choice"),
    ],
)
@pytest.mark.parametrize("main", [cli.main, up.main])
def test_options_without_sense_are_refused(main, options, word, capsys) -> None:
    try:
        status = main(options)
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    assert word in capsys.readouterr().err


def test_up_hands_the_options_to_the_worker() -> None:
    options = ["--draft-model", "some/model", "--num-speculative-tokens", "2"]
    settings = up._settings(up._parser().parse_args(options))
    assert list(settings.worker_options) == options
    settings = up._settings(up._parser().parse_args(["--speculate", "ngram"]))
    assert list(settings.worker_options) == ["--speculate", "ngram"]


def test_a_draft_model_of_another_vocabulary_is_refused(tmp_path) -> None:
    bundled = bundled_model_path()
    check_draft_vocabulary(str(bundled), str(bundled))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled / name, tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text("utf-8")
    path.write_text(_swapped(text), "utf-8")
    with pytest.raises(ModelLoadError, match="2 ids that differ"):
        check_draft_vocabulary(str(bundled), str(tmp_path))


def _swapped(text: str) -> str:
    """The tokenizer with two of its tokens exchanged."""
    import json

    tokenizer = json.loads(text)
    vocab = tokenizer["model"]["vocab"]
    one, other = list(vocab)[-2:]
    vocab[one], vocab[other] = vocab[other], vocab[one]
    return json.dumps(tokenizer)


def test_the_log_line_tells_of_proposals_where_there_are_any() -> None:
    stats = EngineStats(num_blocks=4, num_steps=9, num_proposed_tokens=40, num_accepted_tokens=31)
    assert "proposed" not in stats_line(stats, EngineConfig("m"))
    line = stats_line(stats, EngineConfig("m", speculation="ngram"))
    assert line.endswith("31 of 40 proposed tokens accepted")
