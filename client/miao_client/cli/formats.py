"""The options that say what form the output must have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miao_client.formats import Choices, Grammar, JsonSchema, Regex, ResponseFormat

_FILE = {"exists": True, "dir_okay": False, "readable": True}

JsonSchemaFile = Annotated[
    Path | None, typer.Option("--json-schema", help="A file: the output is its JSON.", **_FILE)
]
Pattern = Annotated[str | None, typer.Option("--regex", help="The output matches this whole.")]
GrammarFile = Annotated[
    Path | None, typer.Option("--grammar", help="A file in Lark's notation.", **_FILE)
]
Choice = Annotated[
    list[str] | None, typer.Option("--choice", help="The output is one of these; repeatable.")
]


def chosen(
    json_schema: Path | None, regex: str | None, grammar: Path | None, choices: list[str] | None
) -> ResponseFormat | None:
    """The one that was asked for; typer.BadParameter where they are several."""
    formats: list[ResponseFormat] = []
    if json_schema is not None:
        formats.append(JsonSchema(_text_of(json_schema, "--json-schema")))
    if regex is not None:
        formats.append(Regex(regex))
    if grammar is not None:
        formats.append(Grammar(_text_of(grammar, "--grammar")))
    if choices:
        formats.append(Choices(*choices))
    if len(formats) > 1:
        raise typer.BadParameter("give one of --json-schema, --regex, --grammar and --choice")
    return formats[0] if formats else None


def _text_of(path: Path, option: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{option}: {path} cannot be read: {error}") from None
