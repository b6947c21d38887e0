"""Chat templates: a conversation becomes the text that a model was trained to continue.

Rendered as the transformers library does it, without that library: the same
sandbox, options, functions and names, so that a template gives the same text.
A template comes from a model's files, so what it may take is bounded.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_RENDERED_CHARS = 16 * 1024 * 1024
MAX_RENDER_SECONDS = 5.0


class ChatTemplateError(ValueError):
    """The template cannot render this conversation; the message is for its author."""


class ChatTemplate:
    """A compiled template with the special tokens that it may name."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile; ChatTemplateError if the source is not a template."""
        try:
            self._template = _ENVIRONMENT.from_string(source)
        except TemplateError as error:
            raise ChatTemplateError(f"the chat template is broken: {error}") from error
        self._special_tokens = dict(special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation up to where the model speaks.

        Messages and tools have the form that transformers gives to templates;
        `options` are further names that a template may ask for.
        """
        pieces = self._template.generate(
            messages=[dict(message) for message in messages],
            tools=None if tools is None else [dict(tool) for tool in tools],
            documents=None,
            add_generation_prompt=True,
            **self._special_tokens,
            **(options or {}),
        )
        try:
            return "".join(_bounded(pieces))
        except ChatTemplateError:
            raise
        except _RefusedError as error:
            raise ChatTemplateError(f"the chat template refuses this: {error}") from error
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ChatTemplateError(
                "the chat template of the model cannot render this conversation"
            ) from error


class _RefusedError(TemplateError):
    """What a template says through raise_exception."""


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, which also keeps a template from multiplying texts without limit."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (abs(left) > 1024 or abs(right) > 64):
            raise SecurityError("a power is too large")
        for one, other in ((left, right), (right, left)):
            if isinstance(one, str | list | tuple) and len(one) * other > MAX_RENDERED_CHARS:
                raise SecurityError("a repetition is too long")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """`{% generation %}` marks what the model said; for rendering it is no more than a block."""

    tags = {"generation"}  # noqa: RUF012 - what Jinja asks for

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Jinja's namespace without names that begin with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError("a namespace holds no names that begin with an underscore")
        super().__setitem__(name, value)


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    deadline = time.monotonic() + MAX_RENDER_SECONDS
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > MAX_RENDERED_CHARS:
            raise ChatTemplateError("the rendered conversation is too long")
        if time.monotonic() > deadline:
            raise ChatTemplateError("the chat template takes too long")
        yield piece


def _raise_exception(message: str) -> NoReturn:
    raise _RefusedError(str(message)[:500])


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    text = json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    if not ensure_ascii:
        return text
    # Noncharacters stand for control tokens that are text; see `tokenization`.
    return re.sub(r"\\u(fd[de][0-9a-f])", lambda found: chr(int(found[1], 16)), text)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = _Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["namespace"] = _Namespace
    return environment


_ENVIRONMENT = _environment()
