"""Reads the JSON of a request, field by field, so that none is passed over.

Each field is taken once, by the type that it must have; `null` is as good as
nothing. What is left when a request has been read is a field that the gateway does
not know, and the request is refused in its name. With `lenient`, fields that cannot
be honoured are noted instead, and the answer names them in a header.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from miao_client.gateway.errors import Refusal

_T = TypeVar("_T")


def parse(body: bytes) -> Mapping[str, Any]:
    """The object that a request's body holds.

    Raises:
        Refusal: It is none.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_refuse_constant)
        if b"\\ud" in body.lower():
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        raise Refusal("the request's body is not JSON", code="invalid_json") from None
    if not isinstance(value, dict):
        raise Refusal("the request's body must be a JSON object", code="invalid_json")
    return value


class Fields:
    """An object within a request, or the whole of it; `path` names it in errors."""

    def __init__(self, value: Mapping[str, Any], path: str = "", lenient: bool = False) -> None:
        self._left = {name: each for name, each in value.items() if each is not None}
        self._path = path
        self._lenient = lenient
        self.ignored: list[str] = []

    def name(self, field: str) -> str:
        """The field's full name."""
        return f"{self._path}.{field}" if self._path else field

    def wrong(self, field: str, rule: str) -> Refusal:
        """The refusal of a value."""
        name = self.name(field)
        return Refusal(f"{name} {rule}", param=name, code="invalid_value")

    def unsupported(self, field: str, why: str) -> None:
        """Refuse what cannot be honoured, or note that it is not.

        Raises:
            Refusal: Unless the gateway is lenient.
        """
        name = self.name(field)
        if not self._lenient:
            raise Refusal(f"{name} {why}", param=name, code="unsupported_parameter")
        self.ignored.append(name)

    def take(self, field: str) -> Any:
        """The value as it came; None if there is none."""
        return self._left.pop(field, None)

    def text(self, field: str) -> str | None:
        """A string."""
        return self._typed(field, str, "a string")

    def boolean(self, field: str) -> bool | None:
        """True or false."""
        return self._typed(field, bool, "true or false")

    def integer(self, field: str) -> int | None:
        """A whole number; 2.0 is one too."""
        value = self.take(field)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise self.wrong(field, "must be an integer")
        return value

    def number(self, field: str) -> float | None:
        """Any number."""
        value = self.take(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise self.wrong(field, "must be a number")
        return value

    def array(self, field: str) -> list[Any] | None:
        """A list of anything."""
        return self._typed(field, list, "an array")

    def inner(self, field: str) -> Fields | None:
        """An object within this one."""
        value = self._typed(field, dict, "an object")
        return None if value is None else self._below(value, self.name(field))

    def objects(self, field: str) -> Iterator[Fields]:
        """The objects of an array."""
        for index, value in enumerate(self.array(field) or ()):
            if not isinstance(value, dict):
                raise self.wrong(f"{field}[{index}]", "must be an object")
            yield self._below(value, self.name(f"{field}[{index}]"))

    def choice(self, field: str, allowed: Sequence[str]) -> str | None:
        """One of some words."""
        value = self.text(field)
        if value is not None and value not in allowed:
            raise self.wrong(field, f"must be one of {', '.join(allowed)}")
        return value

    def needed(self, field: str, value: _T | None) -> _T:
        """The value, which must be there."""
        if value is None:
            raise self.wrong(field, "is required")
        return value

    def only(self, field: str, *honoured: Any, why: str) -> None:
        """Take a field whose other values cannot be honoured."""
        value = self.take(field)
        if value is not None and value not in honoured:
            self.unsupported(field, why)

    def finish(self) -> None:
        """Refuse what has not been taken."""
        for field in tuple(self._left):
            self.unsupported(field, "is not supported")
        self._left.clear()

    def _typed(self, field: str, kind: type[_T], form: str) -> _T | None:
        value = self.take(field)
        if value is not None and not isinstance(value, kind):
            raise self.wrong(field, f"must be {form}")
        return value

    def _below(self, value: Mapping[str, Any], path: str) -> Fields:
        below = Fields(value, path, self._lenient)
        below.ignored = self.ignored
        return below


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
