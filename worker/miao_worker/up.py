"""`miao up`: the whole stack in one terminal."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from rich.console import Console

from miao_client import Client, MiaoError
from miao_queue.connection import redact_url
from miao_worker.cli import (
    add_speculation_options,
    add_tensor_parallel_option,
    speculation_settings,
)
from miao_worker.stack import Stack, StackError, StackSettings
from miao_worker.vllm_engine.options import add_engine_option

_DEMO_PROMPTS = (
    "为什么我的手机没有信号？",
    "Set a reminder for 7 tomorrow morning.",
    "这是一个美好的春天。",
)
_PARTS = {"redis": "Redis", "worker": "worker", "front": "front"}


def main(argv: list[str]) -> int:
    """Run the stack until Ctrl-C, or until the prompts given are answered."""
    arguments = _parser().parse_args(argv)
    try:
        settings = _settings(arguments)
    except ValueError as error:
        print(f"miao up: {error}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, _interrupt)
    try:
        _run(arguments, settings, console)
    except StackError as error:
        print(f"miao up: {error}", file=sys.stderr)
        return 1
    except MiaoError as error:
        print(f"miao up: the stack does not answer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
    return 0


def _run(arguments: argparse.Namespace, settings: StackSettings, console: Console) -> None:
    prompts = [arguments.ask] if arguments.ask else list(_DEMO_PROMPTS if arguments.demo else ())
    with console.status("starting Redis, workers and a front …"):
        stack = Stack(settings, lambda name, s: _say_started(console, name, s))
        stack.start()
    try:
        if prompts:
            _answer(console, stack, prompts)
        else:
            _say_usage(console, stack)
            stack.watch()
    finally:
        with console.status("stopping …"):
            stack.stop()


def _answer(console: Console, stack: Stack, prompts: list[str]) -> None:
    model = stack.models[0]
    with Client(stack.address) as client:
        takes_chat = client.model(model).has_chat_template
        for prompt in prompts:
            console.print(f"\n[bold cyan]› {prompt}[/]", markup=True)
            question: str | list[dict[str, str]] = prompt
            if takes_chat:
                question = [{"role": "user", "content": prompt}]
            stream = client.generate(question, model=model, max_tokens=200)
            for chunk in stream:
                console.print(chunk.text, end="", markup=False, soft_wrap=True)
            result = stream.result()
            assert result.usage is not None
            assert result.timings is not None
            seconds = result.timings.total_seconds or 0.0
            console.print(
                f"\n[dim]{result.usage.output_tokens} tokens in {seconds:.2f} s[/]", markup=True
            )
    console.print()


def _say_started(console: Console, name: str, seconds: float) -> None:
    console.print(f"[green]✓[/] {_PARTS[name]:7} [dim]{seconds:5.1f} s[/]")


def _say_usage(console: Console, stack: Stack) -> None:
    names = list(dict.fromkeys(stack.models))  # a name given twice has two workers
    verb = "is" if len(names) == 1 else "are"
    console.print(f"\n[bold]{', '.join(names)}[/] {verb} served at [bold]{stack.address}[/]")
    console.print(f"[dim]queue: {redact_url(stack.redis_url)}[/]")
    target = f" --target {stack.address}" if stack.address != "127.0.0.1:50051" else ""
    if len(names) > 1:
        target += f" --model {names[0]}"
    console.print(f'\n  miao generate{target} "你好"\n  miao chat{target}\n\nCtrl-C stops it all.')


def _settings(arguments: argparse.Namespace) -> StackSettings:
    models = arguments.model or [os.environ.get("MIAO_MODEL")]
    size = arguments.tensor_parallel_size
    common = ["--engine", arguments.engine] if arguments.engine != "miao" else []
    common += ["--tensor-parallel-size", str(size)] if size > 1 else []
    common += [*_speculation_options(arguments), *arguments.worker_option]
    first, *others = ([*(["--model", model] if model else []), *common] for model in models)
    return StackSettings(
        listen=arguments.listen,
        worker_options=first,
        more_workers=others,
        redis_url=os.environ.get("REDIS_URL"),
        data_folder=arguments.data_folder,
    )


def _speculation_options(arguments: argparse.Namespace) -> list[str]:
    """What the worker is to be told of speculation, once it is known to make sense."""
    chosen = speculation_settings(arguments)
    options = []
    if chosen["speculation"] == "ngram":
        options += ["--speculate", "ngram"]
    if arguments.draft_model is not None:
        options += ["--draft-model", arguments.draft_model]
    if arguments.num_speculative_tokens is not None:
        options += ["--num-speculative-tokens", str(arguments.num_speculative_tokens)]
    return options


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="miao up",
        description=(
            "Run Redis, a worker for each model and a front on this machine until Ctrl-C. "
            "With REDIS_URL set, that Redis is used instead of the embedded Valkey."
        ),
    )
    option = parser.add_argument
    option(
        "--model",
        metavar="NAME_OR_PATH",
        action="append",
        help="a Hugging Face model or a folder, with a worker of its own; may be given several "
        "times; unset: MIAO_MODEL, or the bundled one",
    )
    add_engine_option(parser)
    add_tensor_parallel_option(parser)
    add_speculation_options(parser)
    option("--listen", default="127.0.0.1:50051", help="the front's address (%(default)s)")
    option("--data-folder", type=Path, help="keep the embedded Valkey's data here")
    option(
        "--worker-option",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for the worker, as --worker-option=--dtype=float32",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--ask", metavar="PROMPT", help="answer this and stop")
    what.add_argument("--demo", action="store_true", help="answer three prompts and stop")
    return parser
