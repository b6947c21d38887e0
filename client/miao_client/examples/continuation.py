"""Continues a text by a given length.

python -m miao_client.examples.continuation --tokens 60 "你好，这是我的第一篇博客。"
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from miao_client.examples import terminal
from miao_client.sync.client import Client


def continue_text(
    client: Client, text: str, num_tokens: int, *, temperature: float = 0.7, seed: int | None = None
) -> Iterator[str]:
    """Stream a continuation of exactly that many tokens.

    Up to `min_tokens` an end of the text is not drawn, and `max_tokens` ends it. Where a
    shorter text that comes to its own end is better, leave `min_tokens` out.
    """
    stream = client.generate(
        text,
        min_tokens=num_tokens,
        max_tokens=num_tokens,
        temperature=temperature,
        repetition_penalty=1.1,
        seed=seed,
    )
    for chunk in stream:
        yield chunk.text


def main() -> None:
    """Print a text and its continuation."""
    parser = argparse.ArgumentParser(prog="python -m miao_client.examples.continuation")
    parser.add_argument("text")
    parser.add_argument("--tokens", type=int, default=60, help="how many")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--target")
    parser.add_argument("--model")
    given = parser.parse_args()
    with terminal.reporting(), Client(given.target, model=given.model) as client:
        print(given.text, end="", flush=True)
        pieces = continue_text(
            client, given.text, given.tokens, temperature=given.temperature, seed=given.seed
        )
        terminal.write(pieces)


if __name__ == "__main__":
    main()
