"""Translates texts with any model that can.

python -m miao_client.examples.translation --to English "今天天气很好。"

The bundled model knows some words and no sentences: with it this runs through, and what
comes out is no translation. Serve a larger one: `miao up --model Qwen/Qwen2.5-0.5B-Instruct`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from miao_client.examples import terminal
from miao_client.prompts import Message
from miao_client.sync.client import Client


def translate(client: Client, text: str, to: str, *, max_tokens: int = 512) -> Iterator[str]:
    """Stream a translation of a text into a language, greedily."""
    instructions = f"Translate the user's text into {to}. Answer with the translation alone."
    stream = client.generate(
        [Message("system", instructions), Message("user", text)],
        temperature=0,
        max_tokens=max_tokens,
    )
    for chunk in stream:
        yield chunk.text


def main() -> None:
    """Print the translations of all texts."""
    parser = argparse.ArgumentParser(prog="python -m miao_client.examples.translation")
    parser.add_argument("texts", nargs="+", metavar="text")
    parser.add_argument("--to", default="English", help="the language")
    parser.add_argument("--target")
    parser.add_argument("--model")
    given = parser.parse_args()
    with terminal.reporting(), Client(given.target, model=given.model) as client:
        for text in given.texts:
            terminal.write(translate(client, text, given.to))


if __name__ == "__main__":
    main()
