"""`miao generate`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from miao_client.cli import arguments, formats, output
from miao_client.options import Priority, Ranking
from miao_client.prompts import Message, Prompt
from miao_client.sync.client import Client
from miao_client.sync.stream import GenerationStream


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(generate)


def generate(
    prompt: Annotated[str, typer.Argument(help="What to continue; - reads it from stdin.")],
    target: arguments.Target = None,
    model: arguments.Model = None,
    max_tokens: arguments.MaxTokens = None,
    max_prompt_tokens: arguments.MaxPromptTokens = None,
    truncation: arguments.TruncationChoice = None,
    temperature: arguments.Temperature = None,
    top_p: arguments.TopP = None,
    top_k: arguments.TopK = None,
    min_p: arguments.MinP = None,
    repetition_penalty: arguments.RepetitionPenalty = None,
    presence_penalty: arguments.PresencePenalty = None,
    frequency_penalty: arguments.FrequencyPenalty = None,
    min_tokens: arguments.MinTokens = None,
    seed: arguments.Seed = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends it; repeatable.")] = None,
    bad_word: Annotated[
        list[str] | None, typer.Option(help="Word that must not be said; repeatable.")
    ] = None,
    n: Annotated[int | None, typer.Option("-n", help="How many answers to give, to 16.")] = None,
    best_of: Annotated[
        int | None, typer.Option(help="Generate so many answers and show the n best.")
    ] = None,
    ranking: Annotated[Ranking | None, typer.Option(help="What makes an answer the best.")] = None,
    echo: Annotated[bool, typer.Option("--echo", help="Show the prompt too.")] = False,
    json_schema: formats.JsonSchemaFile = None,
    regex: formats.Pattern = None,
    grammar: formats.GrammarFile = None,
    choice: formats.Choice = None,
    priority: Annotated[Priority | None, typer.Option(help="Who goes first.")] = None,
    timeout: arguments.Timeout = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask through the chat template.")] = False,
    system: Annotated[str | None, typer.Option(help="Instructions; implies --chat.")] = None,
    json: arguments.Json = False,
) -> None:
    """Stream a model's answer to a prompt. Ctrl-C cancels it."""
    response_format = formats.chosen(json_schema, regex, grammar, choice)
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        stream = client.generate(
            _prompt(sys.stdin.read() if prompt == "-" else prompt, chat, system),
            max_tokens=max_tokens,
            max_prompt_tokens=max_prompt_tokens,
            truncation=truncation,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            min_tokens=min_tokens,
            seed=seed,
            stop=stop,
            bad_words=bad_word,
            n=n,
            best_of=best_of,
            ranking=ranking,
            echo=echo or None,
            response_format=response_format,
            priority=priority,
        )
        if not json and max(n or 1, best_of or 1) > 1:
            show_answers(stream)
        else:
            show(stream, json)


def show(stream: GenerationStream, json: bool) -> None:
    """Print a stream as it comes, or its result as JSON."""
    with stream:
        if json:
            output.write_json(stream.result())
            return
        begun = False
        try:
            for chunk in stream:
                output.write_text(chunk.text)
                begun = True
        finally:
            if begun:
                output.write_text("\n")


def show_answers(stream: GenerationStream) -> None:
    """Print several answers, one below the other, when all have come."""
    with stream:
        result = stream.result()
        if result.prompt is not None:
            output.write_text(f"{result.prompt.text}\n")
        for answer in result.answers:
            output.write_text(f"[{answer.index + 1}] {answer.text}\n")


def _prompt(text: str, chat: bool, system: str | None) -> Prompt:
    if system is not None:
        return [Message("system", system), Message("user", text)]
    return [Message("user", text)] if chat else text
