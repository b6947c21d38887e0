"""`miao worker`: serve one model from the queue."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import Any, get_args

from redis.exceptions import RedisError

from miao_queue import connection
from miao_queue.addresses import AddAddress, ShardMap
from miao_queue.connection import RedisUrlError
from miao_queue.protection import Protection
from miao_queue.telemetry import logs, traces
from miao_queue.telemetry.exposition import exposed
from miao_queue.telemetry.logs import FORMS, LEVELS, LogSettings
from miao_queue.telemetry.probes import answering
from miao_queue.vault import Encryption
from miao_worker.adapter_folders import NAME_FORM, is_adapter_name
from miao_worker.engine.config import (
    MAX_SPECULATIVE_TOKENS,
    CacheDtype,
    EngineConfig,
    Explaining,
    Quantization,
)
from miao_worker.engine.protocol import EngineSettings
from miao_worker.settings import WorkerSettings
from miao_worker.tool_formats import FORMATS
from miao_worker.vllm_engine.options import add_engine_option, add_options, vllm_config

_log = logging.getLogger(__name__)

_GIB = 1 << 30
_SWITCH_SECONDS = 0.001  # that the thread which writes tokens waits for one that keeps books
_WAIT_SECONDS = 30.0  # for a Redis that starts, or loads its file


def main(argv: list[str]) -> int:
    """Run a worker until it is told to stop; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logs.configure(LogSettings(arguments.log_format, arguments.log_level))
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        return _work(_settings(arguments))
    except (RedisUrlError, ValueError) as error:  # so are MetricsListenError and TracesError
        print(f"miao worker: {error}", file=sys.stderr)
        return 2


def _work(settings: WorkerSettings) -> int:
    from miao_worker.engine.errors import ModelLoadError
    from miao_worker.worker import Worker

    shards = ShardMap.parse(settings.redis_url).shards
    redis = [(shard.name, connection.connect(shard.url)) for shard in shards]
    try:
        if len(redis) == 1:  # of several, those are served that answer
            connection.wait_until_ready(redis[0][1], _WAIT_SECONDS)
        worker = Worker(settings, redis, on_ready=lambda: _say_ready(settings))
        traces.connect(settings.traces_endpoint, "miao-worker")
        with (
            contextlib.closing(traces.active()),
            exposed(settings.metrics_listen, worker.metrics.registry) as address,
            answering(settings.health_listen, worker.health) as health,
        ):
            if address:
                _log.info("metrics are served at %s", address)
            if health:
                _log.info("health is served at %s", health)
            worker.work()
    except ModelLoadError as error:
        print(f"miao worker: {error}", file=sys.stderr)
        return 1
    except RedisError as error:
        address = ", ".join(connection.redact_url(shard.url) for shard in shards)
        print(f"miao worker: Redis at {address} cannot be used: {error}", file=sys.stderr)
        return 1
    return 0


def _say_ready(settings: WorkerSettings) -> None:
    print(f"worker serving {settings.model_name}", flush=True)


def model_source(model: str | None) -> tuple[str, str]:
    """What to load and what callers name it; the bundled model where none is named."""
    from miao_worker.bundled import BUNDLED_MODEL_NAME, bundled_model_path

    if model is None or model == BUNDLED_MODEL_NAME:
        return str(bundled_model_path()), BUNDLED_MODEL_NAME
    folder = Path(model).expanduser()
    return (str(folder), folder.resolve().name) if folder.is_dir() else (model, model)


def _settings(arguments: argparse.Namespace) -> WorkerSettings:
    model, name = model_source(arguments.model)
    return WorkerSettings(
        redis_url=arguments.redis_url,
        model_name=arguments.name or name,
        engine=_engine_settings(arguments, model),
        lease_seconds=arguments.lease_seconds,
        step_timeout_seconds=arguments.step_timeout_seconds,
        drain_seconds=arguments.drain_seconds,
        adapters=dict(arguments.adapter),
        adapter_folder=arguments.adapter_folder,
        tool_format=arguments.tool_format,
        protection=Protection.read(
            arguments.encryption_keys, arguments.encryption, arguments.signing_keys
        ),
        metrics_listen=arguments.metrics_listen,
        health_listen=arguments.health_listen,
        traces_endpoint=arguments.traces_endpoint,
        logs=LogSettings(arguments.log_format, arguments.log_level),
    )


def add_tensor_parallel_option(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--tensor-parallel-size",
        type=_count,
        metavar="N",
        default=1,
        help="GPUs that compute the model together, each with a share of its weights",
    )


def _engine_settings(arguments: argparse.Namespace, model: str) -> EngineSettings:
    """Those of the engine that is asked for. Raises ValueError for options that do not fit."""
    if arguments.engine == "vllm":
        return vllm_config(arguments, _parser(), model)
    if arguments.vllm_option:
        raise ValueError("--vllm-option needs --engine vllm")
    cache = arguments.cache_gib
    has_adapters = bool(arguments.adapter or arguments.adapter_folder)
    return EngineConfig(
        model=model,
        device=arguments.device,
        dtype=arguments.dtype,
        quantize=arguments.quantize,
        prune=arguments.prune,
        kv_cache_dtype=arguments.kv_cache_dtype,
        block_size=arguments.block_size or EngineConfig(model).block_size,
        cache_bytes=None if cache is None else int(cache * _GIB),
        max_model_length=arguments.max_model_length,
        max_sequences=arguments.max_sequences,
        max_batch_tokens=arguments.max_batch_tokens,
        prefix_cache=not arguments.no_prefix_cache,
        cpu_kernels=not arguments.no_cpu_kernels,
        num_threads=arguments.num_threads,
        tensor_parallel_size=arguments.tensor_parallel_size,
        attention=arguments.attention,
        cuda_graphs=not arguments.no_cuda_graphs,
        overlap=False if arguments.no_overlap else None,
        max_adapters=arguments.max_adapters if has_adapters else 0,
        task=arguments.task,
        explain=arguments.explain,
        explain_bytes=int(arguments.explain_gib * _GIB),
        **speculation_settings(arguments),
    )


def add_speculation_options(group: argparse._ActionsContainer) -> None:
    """The options that `speculation_settings` reads."""
    method = group.add_mutually_exclusive_group()
    method.add_argument(
        "--speculate",
        choices=["off", "ngram"],
        default="off",
        help="ngram: propose what followed the same tokens earlier in prompt or output",
    )
    method.add_argument(
        "--draft-model",
        metavar="NAME_OR_PATH",
        help="propose what this smaller model of the same vocabulary says",
    )
    group.add_argument(
        "--num-speculative-tokens",
        type=_count,
        metavar="K",
        help="tokens proposed at once, at most; unset: 8 with ngram, 4 with a draft model",
    )


def speculation_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The engine's settings of that name. Raises ValueError for options that do not fit."""
    method = "draft" if arguments.draft_model else arguments.speculate
    num_tokens = arguments.num_speculative_tokens
    if num_tokens is not None:
        if method == "off":
            raise ValueError("--num-speculative-tokens needs --speculate ngram or --draft-model")
        if num_tokens > MAX_SPECULATIVE_TOKENS:
            raise ValueError(
                f"--num-speculative-tokens is {num_tokens}; "
                f"it must be between 1 and {MAX_SPECULATIVE_TOKENS}"
            )
    draft_model = arguments.draft_model
    return {
        "speculation": method,
        "draft_model": None if draft_model is None else model_source(draft_model)[0],
        "num_speculative_tokens": num_tokens,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="miao worker",
        description="Serve one model: take its jobs from the queue and write what it says.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    engine, defaults = parser.add_argument_group("engine"), EngineConfig(model="")
    option = parser.add_argument
    option(
        "--model",
        metavar="NAME_OR_PATH",
        default=os.environ.get("MIAO_MODEL"),
        help="a Hugging Face model or a folder; unset: the bundled one",
    )
    option(
        "--task",
        default="auto",
        choices=["auto", "generate", "embed", "classify", "rerank"],
        help="what the model is for; auto: as its files say",
    )
    option("--name", help="what callers name the model; unset: from --model")
    option(
        "--redis-url",
        action=AddAddress,
        default=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        metavar="URL",
        help="where the queue is; several, NAME=URL each, in a list or by saying it again",
    )
    option(
        "--lease-seconds",
        type=_positive,
        default=3.0,
        help="without a sign of life for so long, others take the work over",
    )
    option(
        "--drain-seconds",
        type=float,
        default=20.0,
        help="at SIGTERM, finish what runs for so long, then hand it over",
    )
    option(
        "--step-timeout-seconds",
        type=_positive,
        default=60.0,
        help="replace an engine that brings no step for so long",
    )
    option(
        "--tool-format",
        choices=["auto", "none", *FORMATS],
        default="auto",
        help="how the model writes calls of functions; auto: as its chat template teaches",
    )
    option(
        "--metrics-listen",
        default="",
        metavar="[HOST:]PORT",
        help="serve Prometheus metrics here, on loopback unless a host is named; 0 takes a free "
        "port; unset: nowhere",
    )
    option(
        "--health-listen",
        default="",
        metavar="[HOST:]PORT",
        help="answer gRPC's health checks here, without TLS, for probes; on loopback unless a host "
        "is named; 0 takes a free port; unset: nowhere",
    )
    option(
        "--traces-endpoint",
        default=os.environ.get("MIAO_TRACES_ENDPOINT", ""),
        metavar="URL",
        help="send traces to this OTLP collector, such as http://127.0.0.1:4317",
    )
    option("--log-level", default=os.environ.get("MIAO_LOG_LEVEL", "info"), choices=LEVELS)
    option(
        "--log-format",
        default=os.environ.get("MIAO_LOG_FORMAT", "auto"),
        choices=FORMS,
        help="auto: console where standard error is a terminal, else json",
    )
    add_engine_option(engine)
    option = engine.add_argument
    option("--device", help="cpu, cuda, cuda:1; unset: CUDA where there is one")
    option("--dtype", default="auto", choices=["auto", "bfloat16", "float16", "float32"])
    option(
        "--quantize",
        choices=get_args(Quantization),
        help="round the linear layers at load: weights and activations, or weights alone",
    )
    option(
        "--max-sequences",
        type=_count,
        default=defaults.max_sequences,
        help="sequences in one batch",
    )
    option(
        "--max-batch-tokens",
        type=_count,
        default=defaults.max_batch_tokens,
        help="tokens computed in one step",
    )
    option("--max-model-length", type=_count, help="tokens of prompt and output together")
    option("--cache-gib", type=_positive, help="size of the KV pool; unset: a share of the memory")
    option(
        "--prune",
        metavar="SHARE",
        help="set so much of each layer's weights to zero at load, such as 0.5, or 2:4",
    )
    option(
        "--kv-cache-dtype",
        choices=get_args(CacheDtype),
        default="auto",
        help="int8: keys and values rounded, with a scale for each token and head",
    )
    option("--block-size", type=_count, help="tokens in a KV block; unset: 16, or vLLM's own")
    option("--no-prefix-cache", action="store_true", help="share no prompt prefixes")
    option("--no-cpu-kernels", action="store_true", help="on a CPU, use torch's operations alone")
    option("--num-threads", type=_count, help="CPU threads of the engine")
    add_speculation_options(engine)
    gpus = parser.add_argument_group("GPUs")
    add_tensor_parallel_option(gpus)
    option = gpus.add_argument
    option(
        "--attention",
        choices=["auto", "triton", "torch"],
        default=defaults.attention,
        help="auto: the Triton kernels where Triton is installed and they serve the model",
    )
    option("--no-cuda-graphs", action="store_true", help="launch each kernel of a decode step")
    option("--no-overlap", action="store_true", help="schedule a step when the one before is done")
    _add_protection_options(parser.add_argument_group("protection of what lies in Redis"))
    _add_adapter_options(parser.add_argument_group("adapters"))
    _add_explaining_options(parser.add_argument_group("explaining"))
    add_options(parser.add_argument_group("vLLM"))
    return parser


def _add_protection_options(group: argparse._ActionsContainer) -> None:
    """The same as the fronts have, by the same names in the environment."""
    group.add_argument(
        "--signing-keys",
        metavar="FILE",
        default=os.environ.get("MIAO_SIGNING_KEYS", ""),
        help="run only jobs that a front has signed with one of these keys",
    )
    group.add_argument(
        "--encryption-keys",
        metavar="FILE",
        default=os.environ.get("MIAO_ENCRYPTION_KEYS", ""),
        help="encrypt outputs, and read prompts that are encrypted, with these keys",
    )
    group.add_argument(
        "--encryption",
        choices=list(Encryption),
        default=os.environ.get("MIAO_ENCRYPTION") or Encryption.REQUIRE.value,
        help="with keys: encrypt and read nothing else, read also what was written before, or "
        "only read what others encrypt",
    )


def _add_explaining_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--explain",
        choices=get_args(Explaining),
        default="all",
        help="how answers can be explained. Where the model runs packed or rounded, gradients "
        "load a second copy of its weights, in float32, at the first request for them",
    )
    group.add_argument(
        "--explain-gib",
        type=_positive,
        default=1.0,
        help="memory that gradients may take at a time, besides the weights",
    )


def _add_adapter_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--adapter",
        type=_adapter,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="serve this LoRA adapter, as peft writes it, as a model <model>:<NAME>",
    )
    group.add_argument(
        "--adapter-folder",
        type=_folder,
        metavar="FOLDER",
        help="serve the adapters in here, each in a folder of its name; they may come, change and "
        "go at any time",
    )
    group.add_argument(
        "--max-adapters",
        type=_count,
        default=8,
        help="adapters in memory, and so in one batch; more may be served",
    )


def _adapter(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not separator or not is_adapter_name(name):
        raise argparse.ArgumentTypeError(f"needs NAME=FOLDER, the name {NAME_FORM}, not {text!r}")
    return name, _folder(folder)


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return folder.resolve()


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value
