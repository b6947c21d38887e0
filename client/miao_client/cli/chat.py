"""`miao chat`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from miao_client.cli import arguments, output
from miao_client.errors import MiaoError
from miao_client.options import GenerateOptions
from miao_client.prompts import Message
from miao_client.sync.client import Client

_HELP = "/clear forgets the conversation, /exit leaves; Ctrl-C stops an answer."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    target: arguments.Target = None,
    model: arguments.Model = None,
    system: Annotated[str | None, typer.Option(help="Instructions to the model.")] = None,
    max_tokens: arguments.MaxTokens = None,
    temperature: arguments.Temperature = None,
    top_p: arguments.TopP = None,
    seed: arguments.Seed = None,
    timeout: arguments.Timeout = None,
) -> None:
    """Talk with a model."""
    options = GenerateOptions(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed
    )
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        Conversation(client, system, options).run()


class Conversation:
    """A talk: what was said, and the next turn."""

    def __init__(self, client: Client, system: str | None, options: GenerateOptions) -> None:
        self._client = client
        self._options = options
        self._beginning = [] if system is None else [Message("system", system)]
        self._history = list(self._beginning)
        self._interactive = sys.stdin.isatty()

    def run(self) -> None:
        """Take turns until the person leaves."""
        if self._interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # input() edits lines with it

            print(_HELP)
        while (line := self._read()) is not None:
            match line.strip():
                case "":
                    continue
                case "/exit" | "/quit":
                    return
                case "/clear":
                    self._history = list(self._beginning)
                case "/help":
                    print(_HELP)
                case _:
                    self._turn(line)

    def _read(self) -> str | None:
        try:
            return input("> " if self._interactive else "")
        except output.Terminated:
            raise
        except (EOFError, KeyboardInterrupt):
            return None

    def _turn(self, question: str) -> None:
        """Ask and print the answer; one that was stopped is remembered as far as it came."""
        messages = [*self._history, Message("user", question)]
        said: list[str] = []
        try:
            with self._client.generate(messages, **self._options) as stream:
                for chunk in stream:
                    said.append(chunk.text)
                    output.write_text(chunk.text)
        except output.Terminated:
            raise
        except KeyboardInterrupt:
            pass
        except MiaoError as error:
            print(f"\nmiao: {output.sentence(error)}", file=sys.stderr)
            return
        output.write_text("\n")
        self._history = [*messages, Message("assistant", "".join(said))]
