"""Reads files of one JSON object a line; an error names the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from miao_client.bench.errors import SettingsError
from miao_client.prompts import Prompt


class Entry:
    """One line's object.

    Every reader raises SettingsError where a value does not fit.
    """

    def __init__(self, place: str, values: dict[str, Any]) -> None:
        self._place = place
        self._values = values

    def seconds(self, name: str) -> float:
        """A time that must be there."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(f'"{name}" must be a number of seconds')
        if not 0 <= value < float("inf"):
            raise self.wrong(f'"{name}" must be at least 0 and finite')
        return float(value)

    def count(self, name: str) -> int | None:
        """A number of tokens, if it is there."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(f'"{name}" must be a whole number, at least 1')
        return value

    def prompt(self) -> Prompt | None:
        """A text, token ids or a conversation, if it is there."""
        value = self._values.get("prompt")
        if value is None or _is_prompt(value):
            return value
        raise self.wrong(
            '"prompt" must be a text, a list of token ids, '
            'or a list of messages with "role" and "content"'
        )

    def wrong(self, rule: str) -> SettingsError:
        """The error for this line."""
        return SettingsError(f"{self._place}: {rule}.")


def read(path: Path) -> Iterator[Entry]:
    """The objects of a file; empty lines are passed over.

    Raises:
        SettingsError: It cannot be read, or a line is no JSON object.
    """
    for number, line in lines(path):
        place = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise SettingsError(f"{place}: this is not JSON: {error}.") from None
        if not isinstance(values, dict):
            raise SettingsError(f"{place}: this must be a JSON object.")
        yield Entry(place, values)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that are not empty, with their numbers from 1.

    Raises:
        SettingsError: It cannot be read, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def _is_prompt(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    if not isinstance(value, list) or not value:
        return False
    return all(map(_is_token_id, value)) or all(map(_is_message, value))


def _is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_message(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"role", "content"}:
        return False
    return value["role"] in ("system", "user", "assistant") and isinstance(value["content"], str)
