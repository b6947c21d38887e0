"""How often the two applications are right, on commands and customers kept out of the corpus.

    miao up
    python benchmarks/applications.py [--target HOST:PORT] [--output FILE] [--all]

An answer of the assistant is right if it is the action that was meant, with its moment and
its words; refused if it did nothing and said so; wrong if it did something else. Where nothing
was to be done, whatever does nothing is right.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from miao_client import Client
from miao_client.examples.assistant import Assistant, Understanding
from miao_client.examples.desk import Desk

FOLDER = Path(__file__).parents[1] / "worker" / "training"
NOW = datetime(2026, 3, 11, 10, 20)  # a Wednesday


def read(name: str) -> list[dict[str, Any]]:
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def judge_command(expected: dict[str, Any], understanding: Understanding) -> str:
    action = understanding.action
    if expected["action"] == "none":
        return "right" if action is None or action.kind == "none" else "wrong"
    if action is None:
        return "refused"
    said = action.as_json()
    for name, value in expected.items():
        if name in ("say", "repeat"):
            continue
        given = said.get({"seconds": "duration"}.get(name, name))
        if given not in (value if isinstance(value, list) else [value]):
            return "refused" if action.kind == "none" else "wrong"
    if said.get("repeat", "once") != expected.get("repeat", "once"):
        return "wrong"
    return "wrong" if said.get("at") is not None and "at" not in expected else "right"


def _shown(understanding: Understanding) -> object:
    action, result = understanding.action, understanding.result
    return action.as_json() if action else f"({understanding.kind}) {getattr(result, 'reason', '')}"


def judge_customer(expected: dict[str, Any], desk: Desk) -> tuple[str, str]:
    answer = desk.answer(expected["say"])
    if expected["handover"]:
        return ("right" if answer.handover else "missed"), answer.text
    if answer.handover:
        return "handed over", answer.handover.reason
    words = expected.get("must", [])
    helped = all(any(word.lower() in answer.text.lower() for word in group) for group in words)
    return ("right" if helped else "wrong"), answer.text


def measure(client: Client, verbose: bool) -> dict[str, Any]:
    results: dict[str, Any] = {}
    assistant = Assistant(client)
    for name in ("commands.jsonl", "more_commands.jsonl"):
        verdicts: Counter[str] = Counter()
        for expected in read(name):
            understanding = assistant.understand(expected["say"], NOW)
            verdict = judge_command(expected, understanding)
            verdicts[verdict] += 1
            if verbose or verdict != "right":
                sure = f"{understanding.probability:.2f} {understanding.fields_probability:.2f}"
                print(f"{verdict:8} {sure} {expected['say']}  →  {_shown(understanding)}")
        results[name] = dict(verdicts)
    for name in ("customers.jsonl", "more_customers.jsonl"):
        verdicts = Counter()
        for expected in read(name):
            verdict, text = judge_customer(expected, Desk(client))
            verdicts[verdict] += 1
            if verbose or verdict != "right":
                print(f"{verdict:8} {expected['say']}  →  {text}")
        results[name] = dict(verdicts)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--target")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--all", action="store_true", help="print the right ones too")
    arguments = parser.parse_args()
    with Client(arguments.target, connect_timeout=120, reconnect_timeout=120) as client:
        results = measure(client, arguments.all)
        results["model"] = client.model().name
    print(json.dumps(results, indent=2))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
