"""A bar that shows how far a load is. It needs rich, as the command does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from miao_client.bench.loads import Load
from miao_client.bench.records import Record
from miao_client.bench.settings import Settings

_REFRESHES_PER_SECOND = 4  # drawing takes of the generator's own time


class Course:
    """Draws on stderr, where that is a terminal; nothing of it stays."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._console = Console(stderr=True)

    @contextmanager
    def watch(self, load: Load) -> Iterator[Callable[[Record], None]]:
        """Show a load's bar; the function that it gives is told of each request's end."""
        total = self._settings.num_requests(load)
        began, done, failed, tokens = time.monotonic(), 0, 0, 0
        with self._bar() as bar:
            task = bar.add_task(load.label, total=total or self._settings.duration, said="")

            def ended(record: Record) -> None:
                nonlocal done, failed, tokens
                done, failed = done + 1, failed + (record.failed is not None)
                tokens += record.output_tokens
                passed = time.monotonic() - began
                said = f"{done}{f'/{total}' if total else ''} requests"
                said += f", {tokens / passed if passed else 0:,.0f} tokens/s"
                said += f", {failed} failed" if failed else ""
                bar.update(task, completed=done if total else passed, said=said)

            yield ended

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=self._console,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            disable=not self._console.is_terminal,
        )
