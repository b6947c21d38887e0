"""Reads calls of functions out of what a model writes, character by character.

    {"name": "f", "arguments": {"a": 1}}        also "parameters", in lists, one after another
    f[ARGS]{"a": 1}                             as Mistral's later models write them
    [f(a=1), g()]                               as Python

What comes of an argument goes out at once; Python's are translated one by one.
Each reading is a generator that begins at its first character, waits at `yield`
for the next, and is over at the one behind its last.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from itertools import groupby

from miao_worker.detokenizer import StopTexts

Reading = Generator[None, None, None]
ReadingText = Generator[None, None, str]

_CLOSING = {"{": "}", "[": "]", "(": ")"}
_MOST_LEVELS = 64


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A call begins, where it has a name, or goes on."""

    index: int
    name: str | None
    arguments: str


class _NotACallError(Exception):
    """What was read is no call of a function that there is."""


class _EndedError(Exception):
    """The end mark came within a call that is not well formed."""


class CallReader:
    """Reads the calls of one answer."""

    def __init__(self, names: Collection[str], end: str) -> None:
        """For functions of these names; `end` is the mark behind calls, or empty."""
        self.num_calls = 0  # that are complete
        self._raw: list[str] = []  # what was read since what is certain
        self._names = frozenset(names)
        self._end = end
        self._char = ""
        self._call: _Call | None = None
        self._deltas: list[CallDelta] = []
        self._reading: Generator[None, None, bool] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether calls have begun that have not ended."""
        return self._reading is not None

    def begin(self, announced_by: str) -> None:
        """Expect calls from the next character on."""
        self._raw = [announced_by]
        self._reading = self._calls()
        next(self._reading)

    def push(self, char: str) -> bool:
        """Read a character; False where it is behind the calls, and not read.

        Where what was expected to be a call is none, `take_raw` has all of it.
        """
        assert self._reading is not None
        self._char = char
        if self._call is None or not self._call.has_begun:
            self._raw.append(char)
        try:
            next(self._reading)
        except StopIteration as over:
            self._reading = None
            return bool(over.value)
        except _EndedError:
            self._reading, self._raw = None, []
            self.num_calls += 1
        except _NotACallError:
            self._reading = None
        return True

    def take_deltas(self) -> list[CallDelta]:
        """What has come of calls since this was asked last."""
        deltas = _merged(self._deltas)
        self._deltas.clear()
        return deltas

    def take_raw(self) -> str:
        """What was read for a call and is none, or not yet at the end of the answer."""
        raw, self._raw = self._raw, []
        return "" if self._call is not None and self._call.has_begun else "".join(raw)

    def _calls(self) -> Generator[None, None, bool]:
        """Read up to the end mark, which is taken, or to what is no call, which is not."""
        yield
        is_first, in_list = True, False
        while True:
            yield from self._skip("" if is_first else ",;")
            char = self._char
            if char == "]" and in_list and not is_first:
                in_list, self._raw = False, []
                yield
            elif char == "[" and is_first and not in_list:
                in_list = True
                yield
            elif char == "{" or ((is_first or in_list) and (char.isalpha() or char == "_")):
                yield from self._one_call()
                is_first = False
            elif is_first or in_list:
                raise _NotACallError
            elif self._end and char == self._end[0]:
                yield from self._end_mark()
                self._raw = []
                return True
            else:
                self._raw = []
                return False

    def _one_call(self) -> Reading:
        call = self._call = _Call(self._names, self.num_calls, self._deltas)
        try:
            if self._char == "{":
                yield from self._object(call)
            else:
                yield from self._by_name(call)
        except _NotACallError:
            if not call.has_begun:
                raise
            yield from self._rest(call)
        self.num_calls += 1
        self._call = None
        self._raw = [self._char]  # all before it is certain

    def _object(self, call: _Call, *, is_inner: bool = False) -> Reading:
        """An object that names a function."""
        yield
        while True:
            yield from self._skip(",")
            if self._char == "}":
                break
            key = yield from self._string()
            yield from self._skip(":")
            if key == "name" and not call.has_begun:
                call.begin((yield from self._string()))
            elif key in ("arguments", "parameters") and not call.has_arguments:
                yield from self._arguments(call)
            elif key == "function" and self._char == "{" and not is_inner:
                yield from self._object(call, is_inner=True)
            elif key in ("type", "id", "function") or call.has_begun:
                yield from self._value(_ignore)
            else:
                raise _NotACallError
        if not is_inner:
            call.complete()
        yield

    def _by_name(self, call: _Call) -> Reading:
        """name(a=1), name[ARGS]{...} or name{...}."""
        name = yield from self._name()
        if self._char == "(":
            call.begin(name)
            yield from self._python_arguments(call)
            return
        while self._char == "[":
            mark = yield from self._mark()
            if mark == "[CALL_ID]":
                yield from self._name()
            elif mark != "[ARGS]":
                raise _NotACallError
        yield from self._skip("")
        if self._char != "{":
            raise _NotACallError
        call.begin(name)
        yield from self._value(call.add)

    def _arguments(self, call: _Call) -> Reading:
        if self._char == "{":
            yield from self._value(call.add)
        elif self._char == '"':  # JSON in JSON
            call.add((yield from self._string()))
        else:
            parts: list[str] = []
            yield from self._value(parts.append)
            if "".join(parts) != "null":
                raise _NotACallError

    def _value(self, emit: Callable[[str], None]) -> Reading:
        """Any JSON value, given out as it comes."""
        if self._char not in "{[":
            if self._char == '"':
                emit(json.dumps((yield from self._string())))
                return
            while self._char not in ",}]" and not self._char.isspace():
                emit(self._char)
                yield
            return
        open_: list[str] = []
        while True:
            char = self._char
            if char in "{[":
                open_.append(_CLOSING[char])
                if len(open_) > _MOST_LEVELS:
                    raise _NotACallError
            elif char in "}]" and char != open_.pop():
                raise _NotACallError
            emit(char)
            yield
            if char == '"':
                yield from self._rest_of_string(emit)
            if not open_:
                return

    def _rest_of_string(self, emit: Callable[[str], None]) -> Reading:
        escaped = False
        while True:
            char = self._char
            emit(char)
            yield
            if char == '"' and not escaped:
                return
            escaped = char == "\\" and not escaped

    def _string(self) -> ReadingText:
        """A JSON string."""
        if self._char != '"':
            raise _NotACallError
        parts = ['"']
        yield
        yield from self._rest_of_string(parts.append)
        try:
            return str(json.loads("".join(parts), strict=False))
        except ValueError:
            raise _NotACallError from None

    def _python_arguments(self, call: _Call) -> Reading:
        """(a=1, b="x")."""
        yield
        while True:
            yield from self._skip(",")
            if self._char == ")":
                break
            key = yield from self._name()
            yield from self._skip("")
            if self._char != "=":
                raise _NotACallError
            yield
            value = yield from self._python_value()
            call.add(f"{', ' if call.has_arguments else '{'}{json.dumps(key)}: {value}")
        call.add("}" if call.has_arguments else "{}")
        yield

    def _python_value(self) -> ReadingText:
        """A literal, as JSON."""
        source = ""
        open_: list[str] = []
        while open_ or self._char not in ",)":
            char = self._char
            source += char
            if char in _CLOSING:
                open_.append(_CLOSING[char])
            elif char in ")]}" and (not open_ or char != open_.pop()):
                raise _NotACallError
            yield
            if char in "'\"":
                source += yield from self._python_string(char)
        return _to_json(source)

    def _python_string(self, quote: str) -> ReadingText:
        source, escaped = "", False
        while True:
            char = self._char
            source += char
            yield
            if char == quote and not escaped:
                return source
            escaped = char == "\\" and not escaped

    def _name(self) -> ReadingText:
        name = ""
        while self._char.isalnum() or self._char in "_-.":
            name += self._char
            yield
        return name

    def _mark(self) -> ReadingText:
        """[ARGS] or [CALL_ID], or another that is no longer than these."""
        mark = ""
        while not mark.endswith("]"):
            if len(mark) == len("[CALL_ID]"):
                raise _NotACallError
            mark += self._char
            yield
        return mark

    def _skip(self, separators: str) -> Reading:
        while self._char.isspace() or self._char in separators:
            yield

    def _end_mark(self) -> Reading:
        """The mark behind calls; ends at its last character."""
        for at, expected in enumerate(self._end):
            if self._char != expected:
                raise _NotACallError
            if at + 1 < len(self._end):
                yield

    def _rest(self, call: _Call) -> Reading:
        """What is left of a call that is not well formed: all up to the end mark."""
        call.add(self._char)
        end = StopTexts([self._end] if self._end else [])
        while True:
            yield
            piece = end.push(self._char)
            call.add(piece.text)
            if piece.stop is not None:
                raise _EndedError


class _Call:
    """A call as far as it is read."""

    def __init__(self, names: Collection[str], index: int, deltas: list[CallDelta]) -> None:
        self.has_begun = False
        self.has_arguments = False
        self._names = names
        self._index = index
        self._deltas = deltas
        self._waiting: list[str] = []  # arguments that came before the name

    def begin(self, name: str) -> None:
        if name not in self._names:
            raise _NotACallError
        self.has_begun = True
        self._deltas.append(CallDelta(self._index, name, "".join(self._waiting)))

    def add(self, arguments: str) -> None:
        self.has_arguments = True
        if self.has_begun:
            self._deltas.append(CallDelta(self._index, None, arguments))
        else:
            self._waiting.append(arguments)

    def complete(self) -> None:
        if not self.has_begun:
            raise _NotACallError
        if not self.has_arguments:
            self.add("{}")


def _ignore(_: str) -> None:
    """Of no interest."""


def _to_json(source: str) -> str:
    """A Python literal as JSON; JSON's own constants are taken for Python's."""
    source = source.strip()
    if source in ("true", "false", "null"):
        return source
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may hold what the model said
            value = ast.literal_eval(source)
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise _NotACallError from None


def _merged(deltas: list[CallDelta]) -> list[CallDelta]:
    """The same with one delta for each call."""
    merged: list[CallDelta] = []
    for index, of_call in groupby(deltas, lambda delta: delta.index):
        parts = list(of_call)
        name = parts[0].name
        merged.append(CallDelta(index, name, "".join(part.arguments for part in parts)))
    return merged
