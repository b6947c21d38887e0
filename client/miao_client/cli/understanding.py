"""`miao embed`, `miao classify` and `miao rerank`."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from miao_client.cli import arguments, output
from miao_client.sync.client import Client
from miao_client.understanding import Overlong

_SHOWN_NUMBERS = 4

Texts = Annotated[list[str], typer.Argument(help="The texts; - reads one from each line of stdin.")]
Cut = Annotated[bool, typer.Option("--cut", help="Cut texts that are too long.")]
Raw = Annotated[bool, typer.Option("--raw", help="The model's own numbers as scores.")]
Timeout = Annotated[
    float | None, typer.Option(envvar="MIAO_TIMEOUT", help="Seconds that the answer may take.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (embed, classify, rerank):
        app.command()(command)


def embed(
    texts: Texts,
    target: arguments.Target = None,
    model: arguments.Model = None,
    prompt_name: Annotated[str | None, typer.Option(help="One of the model's prompts.")] = None,
    dimensions: Annotated[int | None, typer.Option(help="Keep the first so many numbers.")] = None,
    normalize: Annotated[
        bool | None, typer.Option(help="Scale to length 1; unset: as the model's files say.")
    ] = None,
    cut: Cut = False,
    timeout: Timeout = None,
    json: arguments.Json = False,
) -> None:
    """Turn texts into vectors."""
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        found = client.embed(
            _lines(texts),
            prompt_name=prompt_name,
            dimensions=dimensions,
            normalize=normalize,
            overlong=_overlong(cut),
        )
        if json:
            output.write_json(_plain(found) | {"embeddings": found.vectors})
            return
        rows = []
        for index, vector in enumerate(found.vectors):
            shown = ", ".join(f"{number:.4f}" for number in vector[:_SHOWN_NUMBERS])
            rows.append((index, f"{math.hypot(*vector):.4f}", f"[{shown}, …]"))
        output.write_table(["INPUT#", "LENGTH#", f"FIRST OF {found.dimensions}"], rows)


def classify(
    texts: Texts,
    target: arguments.Target = None,
    model: arguments.Model = None,
    top_k: Annotated[int | None, typer.Option(help="The most labels of each text.")] = None,
    raw: Raw = False,
    cut: Cut = False,
    timeout: Timeout = None,
    json: arguments.Json = False,
) -> None:
    """Label texts, or their tokens."""
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        inputs = _lines(texts)
        found = client.classify(inputs, top_k=top_k, raw_scores=raw, overlong=_overlong(cut))
        if json:
            output.write_json(found)
            return
        rows: list[tuple[object, ...]] = []
        for index, (text, said) in enumerate(zip(inputs, found.classifications, strict=True)):
            rows += [(index, each.label, f"{each.score:.4f}", "") for each in said.labels]
            rows += [
                (index, each.label, f"{each.score:.4f}", text[each.start : each.end])
                for each in said.tokens
            ]
        output.write_table(["INPUT#", "LABEL", "SCORE#", "TOKEN"], rows)


def rerank(
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    documents: Annotated[
        list[str], typer.Argument(help="The documents; - reads one from each line of stdin.")
    ],
    target: arguments.Target = None,
    model: arguments.Model = None,
    top_n: Annotated[int | None, typer.Option(help="The most documents to show.")] = None,
    raw: Raw = False,
    cut: Cut = False,
    timeout: Timeout = None,
    json: arguments.Json = False,
) -> None:
    """Order documents by how well they answer a query."""
    with output.reporting(), Client(target, model=model, timeout=timeout) as client:
        found = client.rerank(
            query, _lines(documents), top_n=top_n, raw_scores=raw, overlong=_overlong(cut)
        )
        if json:
            output.write_json(found)
            return
        rows = [(each.index, f"{each.score:.4f}", each.document) for each in found.results]
        output.write_table(["DOCUMENT#", "SCORE#", "TEXT"], rows)


def _lines(texts: Sequence[str]) -> list[str]:
    return sys.stdin.read().splitlines() if list(texts) == ["-"] else list(texts)


def _overlong(cut: bool) -> Overlong:
    return Overlong.CUT if cut else Overlong.REFUSE


def _plain(found: Any) -> dict[str, Any]:
    return dataclasses.asdict(found)
