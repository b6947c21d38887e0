"""The benchmark for GPUs, tiny and on a CPU: that its stages run and say what they should."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("benchmarks_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.torch.set_num_threads(1)  # the tensors are too small for more
    return module


def test_the_engine_is_measured_with_each_part_on_and_off(gpu, tmp_path):
    gpu.make_model(tmp_path, is_dry=True)
    results = gpu.run_engine(tmp_path, is_dry=True)
    decode = results["decode_1"]
    weights = 2 * (128 * 32 + 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32) + 32)
    assert 0 <= decode["weight_bytes"] - weights < 4096  # the file's heading
    assert decode["ratio_to_bound"] > 1
    assert {name for name in decode if name.startswith("milliseconds")} == {
        "milliseconds",
        "milliseconds_no_overlap",
        "milliseconds_no_graphs",
        "milliseconds_torch",
    }
    assert all(line["steps"] >= 4 for lines in results["throughput"].values() for line in lines)
    peer = {count: [{"tokens_per_second": 1.0}] for count in results["throughput"]}
    verdict = gpu._verdict({"shape": gpu.SHAPES[True], "engine": results, "peer": peer})
    assert set(verdict) == {
        "decode_1_over_bound",
        "throughput_2_over_peer",
        "throughput_4_over_peer",
    }


def test_a_stage_that_fails_or_takes_too_long_leaves_a_word(gpu, tmp_path):
    assert "not done" in gpu._stage("engine", tmp_path, True, 1.0)["failure"]
