"""All that is to be seen on a GPU, in one call of under eight minutes.

    python benchmarks/gpu.py --output benchmarks/results/gpu.json
    python benchmarks/gpu.py --dry-run        # tiny, on a CPU: that the script works

parity      the tests that need a GPU
engine      a random model of the shape of Llama 3 8B in bfloat16: a decode step of one
            sequence beside the time of reading its weights at the measured bandwidth,
            with graphs, overlap and Triton turned off one by one; output tokens per
            second of 64 and 256 sequences at once
peer        the same sequences by transformers' continuous batching, with the
            attention that it chooses

Each stage is a process of its own, so that one that fails leaves the others' results.
Needs torch and transformers; the package need not be installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [str(ROOT / name) for name in ("proto", "client", "service", "worker")]
sys.path[:0] = PACKAGES

import torch  # noqa: E402

LIMITS = {"model": 90, "parity": 150, "engine": 150, "peer": 120}  # seconds
BUDGET = 460.0  # seconds, all together
SHAPES: dict[bool, dict[str, Any]] = {
    False: {
        "model": {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 8192,
        },
        "concurrency": [64, 256],
        "prompt": 256,
        "new": 128,
        "reps": 2,
        "steps": 100,
    },
    True: {
        "model": {
            "vocab_size": 128,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
        },
        "concurrency": [2, 4],
        "prompt": 8,
        "new": 4,
        "reps": 1,
        "steps": 6,
    },
}


def make_model(folder: Path, is_dry: bool) -> dict[str, Any]:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[is_dry]["model"], tie_word_embeddings=False, eos_token_id=None, bos_token_id=0
    )
    device = "cpu" if is_dry else "cuda"
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(before)
    model.save_pretrained(folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def run_parity(folder: Path, is_dry: bool) -> dict[str, Any]:
    """The tests of tests/parity/test_cuda.py, and the Triton kernels compiled."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    results = {}
    for name in ("tests/parity/test_cuda.py", "tests/unit/engine/test_triton_attention.py"):
        cut = str(Path(name).parent)
        done = subprocess.run(
            [*command, "--confcutdir", cut, *(["--collect-only"] if is_dry else []), name],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*PACKAGES, str(ROOT)])},
            capture_output=True,
            text=True,
        )
        lines = done.stdout.strip().splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        results[name] = {"status": done.returncode, "summary": lines[-1:], "failed": failed[:40]}
    return results


def bandwidth(device: str, num_bytes: int) -> dict[str, float]:
    """Bytes per second of reading (a sum) and of copying (read and written); best of ten."""
    source = torch.zeros(num_bytes // 2, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "read": (lambda: source.view(torch.int32).max(), num_bytes),
        "copy": (lambda: target.copy_(source), 2 * num_bytes),
    }
    found = {}
    for name, (work, moved) in works.items():
        work()
        found[name] = moved / min(_seconds(work) for _ in range(10))
    return found


def _seconds(work: Callable[[], object]) -> float:
    _synchronize()
    started = time.perf_counter()
    work()
    _synchronize()
    return time.perf_counter() - started


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_engine(folder: Path, is_dry: bool) -> dict[str, Any]:
    from miao_worker.engine.config import EngineConfig
    from miao_worker.engine.engine import Engine

    shape, started = SHAPES[is_dry], time.perf_counter()
    engine = Engine(
        EngineConfig(
            str(folder),
            device="cpu" if is_dry else "cuda",
            max_sequences=max(shape["concurrency"]),
            max_batch_tokens=8192,
            max_model_length=2 * (shape["prompt"] + shape["steps"] + shape["new"]),
            prefix_cache=False,
            cpu_kernels=False,
            overlap=True,
        )
    )
    runner: Any = engine._runner
    results: dict[str, Any] = {"load_seconds": time.perf_counter() - started}
    results["triton"], results["graphs"] = runner._on_triton, runner._graphs is not None
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    results["decode_1"] = _decode_alone(engine, shape, stored, is_dry)
    results["throughput"] = {
        str(count): [_throughput(engine, count, shape, rep) for rep in range(shape["reps"])]
        for count in shape["concurrency"]
    }
    with _without(runner, "_graphs"):
        count = shape["concurrency"][0]
        results["throughput_no_graphs"] = {str(count): _throughput(engine, count, shape, "plain")}
        with _without(runner, "_on_triton"):
            results["throughput_torch"] = {str(count): _throughput(engine, count, shape, "torch")}
    return results


def _decode_alone(engine: Any, shape: dict[str, Any], stored: int, is_dry: bool) -> dict[str, Any]:
    """Milliseconds of a decode step of one sequence, and what its weights' bytes allow.

    `stored`: bytes of all weights, in 16 bits.
    """
    runner = engine._runner
    model = shape["model"]
    weight_bytes = stored - 2 * model["vocab_size"] * model["hidden_size"]  # one line is read
    speed = bandwidth(str(runner.device), (1 << 16) if is_dry else (4 << 30))
    results: dict[str, Any] = {"bandwidth": speed, "weight_bytes": weight_bytes}
    results["milliseconds"] = _step_milliseconds(engine, shape)
    with _without(engine, "_overlaps"):
        results["milliseconds_no_overlap"] = _step_milliseconds(engine, shape)
    with _without(runner, "_graphs"):
        results["milliseconds_no_graphs"] = _step_milliseconds(engine, shape)
        with _without(runner, "_on_triton"):
            results["milliseconds_torch"] = _step_milliseconds(engine, shape)
    results["bound_milliseconds"] = 1e3 * weight_bytes / max(speed.values())
    results["ratio_to_bound"] = results["milliseconds"] / results["bound_milliseconds"]
    return results


def _step_milliseconds(engine: Any, shape: dict[str, Any]) -> float:
    """The median over the steps, the first few left out."""
    _add(engine, [_prompt(shape, "alone")], shape["steps"])
    times = []
    while engine.has_unfinished:
        started = time.perf_counter()
        engine.step()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times[3:-1])


def _throughput(engine: Any, count: int, shape: dict[str, Any], rep: object) -> dict[str, float]:
    """Of `count` sequences that arrive together, from their arrival to their end."""
    _add(engine, [_prompt(shape, f"{rep}/{i}") for i in range(count)], shape["new"])
    tokens, steps, started, first = 0, 0, time.perf_counter(), 0.0
    while engine.has_unfinished:
        outputs = engine.step().outputs
        steps += 1
        tokens += sum(len(output.token_ids) for output in outputs)
        if tokens >= count and not first:
            first = time.perf_counter() - started
    seconds = time.perf_counter() - started
    assert tokens == count * shape["new"], tokens
    return {
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "first_tokens_seconds": first,
        "steps": steps,
    }


def _add(engine: Any, prompts: list[list[int]], new: int) -> None:
    from miao_worker.engine.types import SamplingParams, SequenceRequest

    for i, prompt in enumerate(prompts):
        sampling = SamplingParams(max_tokens=new, seed=i, temperature=0)
        engine.add(SequenceRequest(f"{time.monotonic_ns()}-{i}", tuple(prompt), sampling))


def _prompt(shape: dict[str, Any], name: str) -> list[int]:
    draw = random.Random(name)
    return [draw.randrange(10, shape["model"]["vocab_size"]) for _ in range(shape["prompt"])]


@contextlib.contextmanager
def _without(owner: Any, name: str) -> Any:
    before = getattr(owner, name)
    setattr(owner, name, None if name == "_graphs" else False)
    try:
        yield
    finally:
        setattr(owner, name, before)


def run_peer(folder: Path, is_dry: bool) -> dict[str, Any]:
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    shape, device = SHAPES[is_dry], "cpu" if is_dry else "cuda"
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device)
    settings = GenerationConfig(
        max_new_tokens=shape["new"], do_sample=False, eos_token_id=-1, pad_token_id=0
    )

    # On a CPU it would take all of the memory; on a GPU its own choices are the best it has.
    sizes = {"num_blocks": 16, "max_batch_tokens": 64}
    batching = {"continuous_batching_config": ContinuousBatchingConfig(**sizes)} if is_dry else {}

    def run(prompts: list[list[int]]) -> float:
        started = time.perf_counter()
        results = model.generate_batch(inputs=prompts, generation_config=settings, **batching)
        seconds = time.perf_counter() - started
        tokens = sum(len(result.generated_tokens) for result in results.values())
        assert tokens == len(prompts) * shape["new"], tokens
        return seconds

    results: dict[str, Any] = {"attention_asked": model.config._attn_implementation}
    run([_prompt(shape, f"warm/{i}") for i in range(shape["concurrency"][0])])
    for count in shape["concurrency"]:
        # Its graphs are recorded anew in each call; that is not counted as its work.
        short = [_prompt(shape, f"short/{i}") for i in range(count)]
        lines = []
        for rep in range(shape["reps"]):
            seconds = run([_prompt(shape, f"{rep}/{i}") for i in range(count)])
            lines.append({"seconds": seconds, "tokens_per_second": count * shape["new"] / seconds})
        settings.max_new_tokens, whole = 1, settings.max_new_tokens
        shape["new"], kept = 1, shape["new"]
        once = run(short)
        settings.max_new_tokens, shape["new"] = whole, kept
        for line in lines:
            decoded = count * (kept - 1) / max(1e-9, line["seconds"] - once)
            line["decode_tokens_per_second"] = decoded
        results[str(count)] = lines
    results["attention"] = model.config._attn_implementation
    return results


STAGES = {"model": make_model, "parity": run_parity, "engine": run_engine, "peer": run_peer}


def describe() -> dict[str, Any]:
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "command": " ".join(["python", *sys.argv]),
    }
    for name in ("torch", "transformers", "triton", "flash-attn"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"], found["cuda"] = properties.name, torch.version.cuda
        found["gpu_gib"] = round(properties.total_memory / 2**30, 1)
    return found


def main() -> int:
    arguments = _arguments()
    if arguments.stage:
        result = STAGES[arguments.stage](arguments.folder, arguments.dry_run)
        print("\n" + json.dumps(result))
        return 0
    if not arguments.dry_run and not torch.cuda.is_available():
        print("there is no CUDA device; --dry-run tries the script on a CPU", file=sys.stderr)
        return 2
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and shutil.disk_usage(memory).free > 40 << 30 else None
    results: dict[str, Any] = {"machine": describe(), "shape": SHAPES[arguments.dry_run]}
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        for name in STAGES:
            left = BUDGET - (time.monotonic() - started)
            results[name] = _stage(name, Path(folder), arguments.dry_run, min(LIMITS[name], left))
            print(f"{name}: {json.dumps(results[name])}", flush=True)
            if arguments.output:
                arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(_verdict(results), indent=1))
    return 0 if all("failure" not in results[name] for name in STAGES) else 1


def _stage(name: str, folder: Path, is_dry: bool, limit: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--stage", name, "--folder", str(folder)]
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*command, *(["--dry-run"] if is_dry else [])],
            capture_output=True,
            text=True,
            timeout=max(1.0, limit),
        )
    except subprocess.TimeoutExpired:
        return {"failure": f"not done in {limit:.0f} s"}
    if done.returncode:
        return {"failure": done.stderr.strip()[-1500:]}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    result["stage_seconds"] = round(time.monotonic() - started, 1)
    warnings = [line for line in done.stderr.splitlines() if "graphs" in line or "Triton" in line]
    return {**result, "said": warnings[:5]} if warnings else result


def _verdict(results: dict[str, Any]) -> dict[str, Any]:
    """The two figures that count: at most 1.25, and at least 2."""
    verdict: dict[str, Any] = {}
    with contextlib.suppress(KeyError):
        verdict["decode_1_over_bound"] = results["engine"]["decode_1"]["ratio_to_bound"]
    for count in results["shape"]["concurrency"]:
        with contextlib.suppress(KeyError):
            ours = max(x["tokens_per_second"] for x in results["engine"]["throughput"][str(count)])
            theirs = max(x["tokens_per_second"] for x in results["peer"][str(count)])
            verdict[f"throughput_{count}_over_peer"] = ours / theirs
    return verdict


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the results here as JSON")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
