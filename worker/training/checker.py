"""Says by simple expectations whether an answer is sensible.

The held-out questions lie in ``heldout.jsonl``, one JSON object on each line:

    prompt    the question, or ``turns``: the user's messages of a conversation
    language  "zh" or "en": the language of the answer
    must      groups of words; of each group at least one has to occur
    never     words that must not occur
    raw       true: given as plain text, without the chat template
    system    a system message
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HELD_OUT = Path(__file__).parent / "heldout.jsonl"
DEMONSTRATION = Path(__file__).parent / "demonstration.jsonl"
# What the applications of the SDK's examples are measured by.
COMMANDS = (Path(__file__).parent / "commands.jsonl", Path(__file__).parent / "more_commands.jsonl")
CUSTOMERS = (
    Path(__file__).parent / "customers.jsonl",
    Path(__file__).parent / "more_customers.jsonl",
)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LATIN_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Item:
    turns: tuple[str, ...]
    language: str
    must: tuple[tuple[str, ...], ...] = ()
    never: tuple[str, ...] = ()
    raw: bool = False
    system: str | None = None


def read_items(path: Path = HELD_OUT) -> list[Item]:
    return [_item(fields) for fields in read_lines(path)]


def _item(fields: dict[str, Any]) -> Item:
    groups = fields.get("must", ())
    must = tuple((group,) if isinstance(group, str) else tuple(group) for group in groups)
    return Item(
        turns=tuple(fields.get("turns") or (fields["prompt"],)),
        language=fields["language"],
        must=must,
        never=tuple(fields.get("never", ())),
        raw=fields.get("raw", False),
        system=fields.get("system"),
    )


def held_out_questions() -> frozenset[str]:
    """Every question that must not occur in the corpus; earlier turns only lead to it."""
    said = (fields["say"] for path in (*COMMANDS, *CUSTOMERS) for fields in read_lines(path))
    return frozenset((*(item.turns[-1] for item in read_items()), *said))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file that has one on each line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def complaints(item: Item, answer: str, ended: bool) -> list[str]:
    """What is wrong with an answer; nothing if it is sensible."""
    return list(_complaints(item, answer, ended))


def _complaints(item: Item, answer: str, ended: bool) -> Iterator[str]:
    lowered = answer.lower()
    if not answer.strip():
        yield "empty"
    if not ended:
        yield "does not end"
    if "\ufffd" in answer or "<|" in answer:
        yield "broken characters"
    if not _speaks(answer, item.language):
        yield f"not in {item.language}"
    if _repeats(answer):
        yield "repeats itself"
    if len(answer) > 20 and answer.strip()[-1] not in '.!?。！？”"}':
        yield "no final mark"
    for group in item.must:
        if not any(word.lower() in lowered for word in group):
            yield f"lacks {' or '.join(group)}"
    for word in item.never:
        if word.lower() in lowered:
            yield f"says {word}"


def _speaks(answer: str, language: str) -> bool:
    han, latin = len(_HAN.findall(answer)), len(_LATIN_WORD.findall(answer))
    if language == "any":
        return True
    return han > latin if language == "zh" else latin > han


def _repeats(answer: str) -> bool:
    units = _HAN.findall(answer) or _LATIN_WORD.findall(answer)
    size = 8 if _HAN.search(answer) else 5
    seen: set[Sequence[str]] = set()
    for start in range(len(units) - size + 1):
        window = tuple(units[start : start + size])
        if window in seen:
            return True
        seen.add(window)
    return False
