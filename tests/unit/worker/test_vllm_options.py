"""The options for vLLM as the engine, on `miao worker` and on `miao up`."""

from __future__ import annotations

import pickle

import pytest

from miao_worker import cli, up
from miao_worker.batch_worker import stats_line
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.protocol import EngineSettings
from miao_worker.engine.types import EngineStats
from miao_worker.engine_kinds import MIAO, VLLM, kind_of
from miao_worker.vllm_engine.config import VllmConfig


def engine_of(*options: str) -> EngineSettings:
    return cli._settings(cli._parser().parse_args(list(options))).engine


def test_the_engine_is_miaos_own_unless_another_is_asked_for() -> None:
    config = engine_of()
    assert isinstance(config, EngineConfig)
    assert kind_of(config) is MIAO
    assert config.block_size == 16


def test_the_options_reach_vllm() -> None:
    config = engine_of(
        *("--engine", "vllm", "--model", "some/model", "--dtype", "float16", "--cache-gib", "2"),
        *("--max-sequences", "7", "--max-batch-tokens", "512", "--max-model-length", "900"),
        *("--block-size", "32", "--no-prefix-cache", "--num-threads", "3", "--explain", "off"),
        *("--tensor-parallel-size", "2", "--vllm-option", "quantization=awq"),
        *("--vllm-option", "enforce-eager=true", "--vllm-option", 'compilation_config={"mode": 0}'),
    )
    assert kind_of(config) is VLLM
    assert config == VllmConfig(
        model="some/model",
        dtype="float16",
        block_size=32,
        cache_bytes=2 << 30,
        max_model_length=900,
        max_sequences=7,
        max_batch_tokens=512,
        prefix_cache=False,
        tensor_parallel_size=2,
        num_threads=3,
        explains=False,
        options={
            "quantization": "awq",
            "enforce_eager": True,
            "compilation_config": {"mode": 0},
        },
    )
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quantize", "int8"], ["--quantize", "--vllm-option quantization"]),
        (["--kv-cache-dtype", "int8"], ["--kv-cache-dtype", "--vllm-option kv_cache_dtype"]),
        (["--prune", "0.5"], ["--prune"]),
        (["--device", "cuda:1"], ["--device", "CUDA_VISIBLE_DEVICES"]),
        (["--speculate", "ngram"], ["--speculate"]),
        (["--draft-model", "small"], ["--draft-model"]),
        (["--adapter-folder", "."], ["--adapter-folder", "Miao's own engine"]),
        (["--no-cuda-graphs"], ["--no-cuda-graphs", "enforce_eager"]),
        (["--task", "embed"], ["--task", "only generates"]),
    ],
)
def test_what_vllm_does_not_do_is_refused_by_name(options: list[str], words: list[str]) -> None:
    with pytest.raises(ValueError, match=words[0]) as caught:
        engine_of("--engine", "vllm", *options)
    for word in words:
        assert word in str(caught.value)


def test_options_of_vllm_need_vllm(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--vllm-option", "quantization=awq"]) == 2
    assert "--engine vllm" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["--engine", "vllm", "--vllm-option", "quantization"])
    assert "NAME=VALUE" in capsys.readouterr().err


def test_miao_up_hands_the_engine_to_every_worker() -> None:
    arguments = up._parser().parse_args(["--engine", "vllm", "--model", "a", "--model", "b"])
    settings = up._settings(arguments)
    for options in (settings.worker_options, *settings.more_workers):
        assert "--engine vllm" in " ".join(options)
    assert "--engine" not in up._settings(up._parser().parse_args([])).worker_options


def test_a_worker_without_vllm_says_what_to_install() -> None:
    from importlib.util import find_spec

    from miao_worker.engine.errors import ModelLoadError

    if find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    with pytest.raises(ModelLoadError, match=r"miao\[vllm\]"):
        VLLM.load(VllmConfig("m"), "m", None)


def test_vllms_statistics_have_a_line() -> None:
    stats = EngineStats(num_running=2, num_blocks=9, num_free_blocks=4, num_steps=7)
    assert "4 of 9 blocks free" in stats_line(stats, VllmConfig("m"))
    assert "proposed" not in stats_line(stats, VllmConfig("m"))
