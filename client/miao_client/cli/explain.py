"""`miao explain`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.style import Style
from rich.text import Text

from miao_client.cli import arguments, output
from miao_client.explanation_results import Explanation
from miao_client.explanation_view import (
    METHODS,
    Piece,
    depth,
    largest,
    name_of,
    pieces,
    probability,
    strength,
)
from miao_client.results import ExplainMethod
from miao_client.sync.client import Client

_FAINT = 0.06  # a share below which nothing is coloured
_PALE_FOR, _FULL_FOR = (255, 236, 217), (255, 130, 40)
_PALE_AGAINST, _FULL_AGAINST = (222, 238, 255), (70, 150, 255)
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "·")
_CONTROLS |= {0x0A: "↵\n", 0x09: "→"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(explain)


def explain(
    text: Annotated[str, typer.Argument(help="The prompt or text; - reads it from stdin.")],
    target: arguments.Target = None,
    model: arguments.Model = None,
    answer: Annotated[
        str | None, typer.Option("--output", help="What the model is taken to say.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="As a message of a conversation.")] = False,
    classify: Annotated[
        bool, typer.Option("--classify", help="Explain a classifier's label.")
    ] = False,
    label: Annotated[
        str | None, typer.Option(help="Which label; unset: the best. Implies --classify.")
    ] = None,
    pair: Annotated[
        str | None, typer.Option(help="A second text beside it. Implies --classify.")
    ] = None,
    method: Annotated[
        ExplainMethod, typer.Option(help="How to find each token's share.")
    ] = ExplainMethod.LEAVE_ONE_OUT,
    steps: Annotated[int | None, typer.Option(help="With integrated_gradients: 2 to 256.")] = None,
    max_tokens: arguments.MaxTokens = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="The output as a whole, at the cost of one token.")
    ] = False,
    candidates: Annotated[
        int | None, typer.Option(help="The likeliest tokens in each place.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page into this file.")] = None,
    timeout: arguments.Timeout = None,
    json: arguments.Json = False,
) -> None:
    """Say which input tokens carried an answer, and what else could have been said."""
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        text = sys.stdin.read() if text == "-" else text
        if classify or label is not None or pair is not None:
            asked = text if pair is None else (text, pair)
            found = client.explain_label(asked, label=label, method=method, steps=steps)
        else:
            found = client.explain(
                [{"role": "user", "content": text}] if chat else text,
                output=answer,
                max_tokens=max_tokens,
                method=method,
                steps=steps,
                whole_output=whole,
                candidates=candidates,
            )
    if html is not None:
        _write(html, found)
    if json:
        output.write_json(found)
    else:
        show(found, output.console())
        if html is not None:
            print(f"\nwritten to {html}")


def show(found: Explanation, console: Console) -> None:
    """Print the input coloured by its shares, then each thing that is explained."""
    heading = Text(f"{found.model}, by {METHODS[found.method]}: what spoke ")
    heading.append("for", _style(1.0)).append(" and ").append("against", _style(-1.0))
    console.print(heading.append(" the answer"), end="\n\n")
    texts = pieces(found, found.total)
    top = strength(texts)
    for text in texts:
        console.print(_coloured(text, top), soft_wrap=True)
    console.print()
    if found.labels:
        output.write_table(
            ["LABEL", "SCORE#"], [(each.label, f"{each.score:.4f}") for each in found.labels]
        )
        console.print()
    output.write_table(["ANSWER", "PROBABILITY#", "LARGEST SHARES", "INSTEAD"], _rows(found))
    for line in _about_sums(found):
        console.print(line)


def _rows(found: Explanation) -> Iterator[tuple[str, ...]]:
    for attribution in found.attributions:
        shares = largest(found, attribution.scores, 3)
        carried = "  ".join(f"{_visible(p.text)} {p.score or 0.0:+.2f}" for p in shares)
        instead = ""
        if attribution.output_index is not None:
            token = found.output[attribution.output_index]
            instead = "  ".join(
                f"{_visible(each.text)} {probability(each.logprob)}"
                for each in token.candidates
                if each.token_id != token.token_id
            )
        name = _visible(name_of(found, attribution))
        yield name, probability(attribution.value), carried, instead


def _about_sums(found: Explanation) -> Iterator[str]:
    deltas = [abs(each.delta) for each in found.attributions if each.delta is not None]
    if deltas:
        yield f"the scores add up within {max(deltas):.2g} (more steps: nearer)"


def _coloured(text: list[Piece], top: float) -> Text:
    line = Text()
    for piece in text:
        shown = piece.text.translate(_CONTROLS)
        share = depth(piece.score, top)
        style = _style(share) if abs(share) >= _FAINT else Style(dim=piece.is_special)
        line.append(shown, style)
    return line


def _style(share: float) -> Style:
    """Dark letters on orange for what spoke for it, on blue for what spoke against."""
    pale, full = (_PALE_FOR, _FULL_FOR) if share > 0 else (_PALE_AGAINST, _FULL_AGAINST)
    mixed = (round(p + (f - p) * abs(share)) for p, f in zip(pale, full, strict=True))
    red, green, blue = mixed
    return Style(color="black", bgcolor=f"rgb({red},{green},{blue})")


def _visible(text: str) -> str:
    """A piece of text within a table: its ends are seen."""
    shown = text.translate(_CONTROLS).replace("\n", "")
    return shown if shown.strip() == shown and shown else f"“{shown}”"


def _write(path: Path, found: Explanation) -> None:
    try:
        path.write_text(found.to_html(), "utf-8")
    except OSError as error:
        output.fail(f"{path} cannot be written: {error.strerror}")
