"""How a peer's process talks to `compare_peers.py`.

It says "ready", then answers each line of a JSON list of prompts and the number
of new tokens with the seconds that they took. What else it prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

Run = Callable[[list[list[int]], int], float]


def serve(run: Run) -> None:
    """Answer until stdin closes; `run` gives the seconds for prompts and new tokens."""
    print("ready", file=_answers, flush=True)
    for line in sys.stdin:
        prompts, new_tokens = json.loads(line)
        print(run(prompts, new_tokens), file=_answers, flush=True)


# Engines write to stdout as they like: the answers keep it, the rest is sent elsewhere.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
