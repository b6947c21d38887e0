"""Logs: one line for each event, for people at a terminal, else as JSON.

The code logs through `logging`, with ids and numbers as `extra`; structlog writes the
lines. What may stand beside an event is on a list, so no field appears by accident, and of
an exception a line has its kind and its place alone: its words may hold a prompt.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import structlog
from structlog.typing import EventDict, Processor

from miao_queue.records import Record
from miao_queue.telemetry.faults import describe

FORMS = ("auto", "json", "console")
LEVELS = ("debug", "info", "warning", "error")

# What a line may hold beside its event. Ids, names and numbers; never a text of a caller.
FIELDS = frozenset(
    {
        *("generation", "attempt", "tenant", "model", "worker", "credential"),
        *("method", "code", "reason", "fault"),
        *("prompt_tokens", "cached_tokens", "output_tokens"),
        *("queued_ms", "first_token_ms", "total_ms"),
    }
)
_OURS = ("miao_", "tests.")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a process logs.

    form: of FORMS; auto is console where stderr is a terminal.
    level: the least that is written, in small letters.
    """

    form: str = "auto"
    level: str = "info"


def configure(settings: LogSettings, stream: IO[str] | None = None) -> None:
    """Write all that this process logs to stderr, or another stream, from now on."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_formatter(settings.form, is_terminal=stream.isatty()))
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    logging.getLogger("rq.worker").setLevel(logging.WARNING)


def ids(record: Record) -> Mapping[str, Any]:
    """What a line says of whose generation it is, as `extra`."""
    return {
        "generation": record.generation_id,
        "attempt": record.attempt,
        "tenant": record.tenant,
        "model": record.model,
    }


def _formatter(form: str, *, is_terminal: bool) -> logging.Formatter:
    is_console = form == "console" or (form == "auto" and is_terminal)
    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=FIELDS),
        _without_words,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.add_logger_name,
    ]
    last: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if is_console:
        last = structlog.dev.ConsoleRenderer(colors=is_terminal)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )


def _without_words(logger: object, method: str, event: EventDict) -> EventDict:
    """Take an exception's words away, and what libraries say beyond their first line."""
    record: logging.LogRecord = event["_record"]
    # A traceback is composed by handlers that came before, and would be written after us.
    failure, record.exc_info, record.exc_text = record.exc_info, None, None
    event.pop("exc_info", None)
    if isinstance(failure, tuple) and failure[1] is not None:
        event["fault"] = describe(failure[1])
    if not record.name.startswith(_OURS):
        event["event"] = str(event["event"]).split("\n", 1)[0]
    return event
