"""How `miao top` shows a fleet: one screen, read from the top down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from miao_client.fleet import Fleet, FleetWorker

_BAR_CELLS = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"
_MOST_QUEUES = 10


def view(fleet: Fleet, rates: Sequence[float], target: str) -> RenderableType:
    """The screen. `rates`: tokens a second of the whole fleet so far, the last one now."""
    parts = [_summary(fleet, rates, target), _models(fleet), Text(), _workers(fleet)]
    if fleet.queues:
        parts += [Text(), _queues(fleet)]
    return Group(*parts)


def _summary(fleet: Fleet, rates: Sequence[float], target: str) -> RenderableType:
    workers = fleet.workers
    running = sum(worker.num_running for worker in workers)
    queued = sum(model.num_queued for model in fleet.models)
    takeovers = sum(worker.num_takeovers for worker in workers)
    restarts = sum(worker.num_engine_restarts for worker in workers)
    table = Table.grid(expand=True)
    for _ in range(7):
        table.add_column(justify="left")
    numbers = (
        ("workers", str(len(workers)), "bold" if workers else "bold red"),
        ("running", str(running), "bold green" if running else "bold"),
        ("queued", str(queued), "bold yellow" if queued else "bold"),
        ("tokens/s", f"{rates[-1] if rates else 0:,.0f}", "bold cyan"),
        ("takeovers", str(takeovers), "bold yellow" if takeovers else "bold"),
        ("restarts", str(restarts), "bold red" if restarts else "bold"),
    )
    cells = [Text.assemble((value, style), " ", (name, "dim")) for name, value, style in numbers]
    table.add_row(*cells, Text(_spark(rates), style="cyan"))
    return Panel(
        table,
        title=f"[bold]miao top[/] [dim]{target}[/]",
        title_align="left",
        subtitle=f"[dim]{fleet.time.astimezone():%H:%M:%S}[/]",
        subtitle_align="right",
        border_style="dim",
    )


def _models(fleet: Fleet) -> RenderableType:
    table = _table(
        "MODEL", "WORKERS#", "RUNNING#", "QUEUED#", "TOKENS/S#", "FIRST TOKEN#", "CACHED#"
    )
    for model in fleet.models:
        workers = [worker for worker in fleet.workers if worker.model == model.name]
        table.add_row(
            Text(model.name, style="bold"),
            Text(str(model.num_workers), style="" if model.num_workers else "bold red"),
            str(sum(worker.num_running for worker in workers)),
            Text(str(model.num_queued), style="bold yellow" if model.num_queued else "dim"),
            f"{sum(worker.output_tokens_per_second for worker in workers):,.0f}",
            _first_token([worker.first_token_ms_p50 for worker in workers]),
            _share_cached(workers),
        )
    return table


def _workers(fleet: Fleet) -> RenderableType:
    table = _table(
        *("WORKER", "BATCH", "KV CACHE", "TOKENS/S#", "FIRST p50#", "p95#"),
        *("ENDED#", "TAKEOVERS#", "RESTARTS#", "UP#"),
    )
    for worker in fleet.workers:
        name = Text(worker.name)
        if worker.is_draining:
            name.append(" drains", style="bold yellow")
        table.add_row(
            name,
            _bar(
                worker.num_running / max(1, worker.max_running),
                f"{worker.num_running}/{worker.max_running}",
                calm=True,  # a full batch is what one wants
            ),
            _bar(worker.cache_usage, f"{worker.cache_usage:.0%}"),
            f"{worker.output_tokens_per_second:,.0f}",
            _first_token([worker.first_token_ms_p50]),
            _first_token([worker.first_token_ms_p95]),
            f"{worker.num_ended:,}",
            _count(worker.num_takeovers, "yellow"),
            _count(worker.num_engine_restarts, "red"),
            _span(fleet.time - worker.start_time),
        )
    return table


def _queues(fleet: Fleet) -> RenderableType:
    table = _table("TENANT", "MODEL", "WAITING", "LONGEST#")
    most = max(queue.num_waiting for queue in fleet.queues)
    for queue in fleet.queues[:_MOST_QUEUES]:
        table.add_row(
            Text(queue.tenant, style="bold"),
            queue.model,
            _bar(queue.num_waiting / most, str(queue.num_waiting), calm=True),
            _span(timedelta(milliseconds=queue.longest_wait_ms)),
        )
    hidden = len(fleet.queues) - _MOST_QUEUES
    if hidden > 0:
        table.add_row(Text(f"and {hidden} more", style="dim"))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.title = None
    for column in columns:
        table.add_column(
            column.removesuffix("#"),
            justify="right" if column.endswith("#") else "left",
            no_wrap=True,
        )
    return table


def _bar(share: float, text: str, *, calm: bool = False) -> Text:
    """A filled bar with its number; yellow from 70 %, red from 90 %, unless it may be full."""
    share = min(1.0, max(0.0, share))
    eighths = round(share * _BAR_CELLS * 8)
    filled = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    style = "green" if share < 0.7 or calm else "yellow" if share < 0.9 else "red"
    rest = "·" * (_BAR_CELLS - len(filled))
    return Text.assemble((filled, style), (rest, "dim"), " ", text)


def _spark(values: Sequence[float], cells: int = 24) -> str:
    shown = list(values)[-cells:]
    most = max(shown, default=0.0)
    if most <= 0:
        return ""
    return "".join(_SPARKS[min(7, int(value / most * 7.999))] for value in shown)


def _first_token(times_ms: Iterable[int | None]) -> Text:
    known = [ms for ms in times_ms if ms is not None]
    if not known:
        return Text("-", style="dim")
    ms = max(known)
    return Text(f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s")


def _share_cached(workers: Sequence[FleetWorker]) -> Text:
    prompt = sum(worker.prompt_tokens for worker in workers)
    if not prompt:
        return Text("-", style="dim")
    return Text(f"{sum(worker.cached_prompt_tokens for worker in workers) / prompt:.0%}")


def _count(number: int, style: str) -> Text:
    return Text(str(number), style=f"bold {style}" if number else "dim")


def _span(span: timedelta) -> Text:
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return Text(f"{seconds // size} {unit}")
    return Text(f"{seconds} s" if seconds else f"{span.total_seconds():.1f} s")


def fleet_rate(before: Fleet | None, fleet: Fleet) -> float:
    """Tokens a second of all workers, between two looks where there are two."""
    if before is None:
        return sum(worker.output_tokens_per_second for worker in fleet.workers)
    known = {worker.name: worker.output_tokens for worker in before.workers}
    said = sum(
        max(0, worker.output_tokens - known.get(worker.name, worker.output_tokens))
        for worker in fleet.workers
    )
    return said / max(0.001, _seconds(before.time, fleet.time))


def _seconds(begin: datetime, end: datetime) -> float:
    return (end - begin).total_seconds()
