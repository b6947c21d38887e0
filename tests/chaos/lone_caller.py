"""A caller in a process of its own, for being killed: says what it has seen.

Reads a JSON object from standard input: targets, prompt, options. Writes the
generation's id, then the number of tokens after each chunk.
"""

from __future__ import annotations

import contextlib
import json
import sys

from miao_client import Client, GenerationCancelledError


def main() -> None:
    told = json.load(sys.stdin)
    with Client(told["targets"], **told["patience"]) as client:
        stream = client.generate(told["prompt"], **told["options"])
        print(stream.generation_id, flush=True)
        with contextlib.suppress(GenerationCancelledError):  # as asked, when a connection breaks
            for chunk in stream:
                print(chunk.sequence_number, flush=True)


if __name__ == "__main__":
    main()
