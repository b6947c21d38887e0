"""`miao bench`."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from miao_client.aio.client import AsyncClient
from miao_client.bench import document, plot, tables
from miao_client.bench.arrivals import read_trace
from miao_client.bench.course import Course
from miao_client.bench.errors import SettingsError
from miao_client.bench.settings import Settings, Slo, check_folder, loads_of
from miao_client.bench.sweep import Report, Sweep
from miao_client.bench.workload import Workload
from miao_client.cli import arguments, output

_Number = TypeVar("_Number", int, float)

_LOAD, _REQUESTS, _SLO, _RESULTS = "Load: one of these", "Requests", "Goodput", "Results"
_STATUSES = {signal.SIGINT: output.INTERRUPTED, signal.SIGTERM: output.TERMINATED}
_WRONG_ARGUMENT = 2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(bench)


def bench(
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency",
            "-c",
            metavar="N,...",
            help="Closed loop: so many callers, each waits for its answer; a sweep: 1,8,32.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="R,...",
            help="Open loop: requests a second, as a Poisson process; a sweep: 2.5,5,10.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    arrivals: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help='Open loop: as a trace says; lines of {"at": seconds} with input_tokens, '
            "output_tokens, prompt as wanted.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            help="How many for each load. Default: 100, at least 4 for each caller; a trace's all.",
            rich_help_panel=_REQUESTS,
        ),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(help="Instead: seconds in which to send.", rich_help_panel=_REQUESTS),
    ] = None,
    warmup: Annotated[
        int,
        typer.Option(
            help="Requests before each load that are not measured.", rich_help_panel=_REQUESTS
        ),
    ] = 0,
    prompts: Annotated[
        str,
        typer.Option(
            metavar="KIND|FILE",
            help="random, shared-prefix, a .txt of one prompt a line, or a .jsonl of "
            '{"prompt": ...}.',
            rich_help_panel=_REQUESTS,
        ),
    ] = "random",
    input_tokens: Annotated[
        int, typer.Option(help="Length of a random prompt.", rich_help_panel=_REQUESTS)
    ] = 128,
    shared_prefix_tokens: Annotated[
        int | None,
        typer.Option(
            help="How many of them all prompts have in common.", rich_help_panel=_REQUESTS
        ),
    ] = None,
    output_tokens: Annotated[
        int, typer.Option(help="The most tokens of an answer.", rich_help_panel=_REQUESTS)
    ] = 128,
    ignore_eos: Annotated[
        bool,
        typer.Option(
            "--ignore-eos", help="Make answers exactly so long.", rich_help_panel=_REQUESTS
        ),
    ] = False,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="0 to 5; 0 takes the likeliest token. Default: the model's.",
            rich_help_panel=_REQUESTS,
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds that a request may take.", rich_help_panel=_REQUESTS),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Sends the same requests again. Default: others each time, so that no cache "
            "knows them.",
            rich_help_panel=_REQUESTS,
        ),
    ] = None,
    slo_ttft: Annotated[
        float | None,
        typer.Option(help="Seconds to the first token.", rich_help_panel=_SLO),
    ] = None,
    slo_tpot: Annotated[
        float | None,
        typer.Option(help="Seconds for each further token on average.", rich_help_panel=_SLO),
    ] = None,
    slo_itl: Annotated[
        float | None,
        typer.Option(
            help="Seconds between two tokens, at each place of the answer.", rich_help_panel=_SLO
        ),
    ] = None,
    slo_e2e: Annotated[
        float | None,
        typer.Option(help="Seconds to the end.", rich_help_panel=_SLO),
    ] = None,
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all figures.", rich_help_panel=_RESULTS),
    ] = None,
    records: Annotated[
        bool,
        typer.Option(
            "--records", help="And each request's, with every gap.", rich_help_panel=_RESULTS
        ),
    ] = False,
    plot_file: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE.png|svg",
            help="Draw latency over throughput; needs miao[bench].",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    target: arguments.Target = None,
    model: arguments.Model = None,
) -> None:
    """Measure a service under load: latencies, throughput, goodput.

    Ctrl-C ends it with what was measured until then.
    """
    try:
        settings = Settings(
            loads=loads_of(
                _numbers("--concurrency", concurrency, int),
                _numbers("--rate", rate, float),
                read_trace(arrivals) if arrivals else None,
            ),
            requests=requests,
            duration=duration,
            warmup=warmup,
            prompts=prompts,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            shared_prefix_tokens=shared_prefix_tokens,
            ignore_eos=ignore_eos,
            temperature=temperature,
            timeout=timeout,
            seed=secrets.randbits(32) if seed is None else seed,
            slo=Slo(ttft=slo_ttft, itl=slo_itl, tpot=slo_tpot, e2e=slo_e2e),
        )
        _check_files(json, records, plot_file)
        with output.reporting():
            report = asyncio.run(_measure(target, model, settings, _saver(json, records)))
    except SettingsError as error:
        typer.echo(f"miao: {error}", err=True)
        raise typer.Exit(_WRONG_ARGUMENT) from None
    if len(report.points) > 1:
        tables.write_summary(report)
    if plot_file:
        plot.write(report, plot_file)
    raise typer.Exit(_status(report))


async def _measure(
    target: str | None, model: str | None, settings: Settings, save: Callable[[Report], None]
) -> Report:
    async with AsyncClient(target, model=model, timeout=settings.timeout) as client:
        found = await client.model()
        sweep = Sweep(client, settings, found, Workload(settings, found))
        tables.write_head(sweep.report)

        def measured(report: Report) -> None:
            save(report)  # after each load: what is measured is not lost with the next
            tables.write_point(report.points[-1])

        return await sweep.run(Course(settings).watch, measured)


def _saver(path: Path | None, with_records: bool) -> Callable[[Report], None]:
    def save(report: Report) -> None:
        if path is not None:
            document.write(report, path, with_records=with_records)

    return save


def _check_files(json: Path | None, records: bool, plot_file: Path | None) -> None:
    if records and json is None:
        raise SettingsError("--records needs --json FILE, where they are written.")
    check_folder("--json", json)
    check_folder("--plot", plot_file)
    if plot_file:
        plot.check(plot_file)


def _numbers(option: str, text: str | None, kind: type[_Number]) -> list[_Number] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = "whole numbers" if kind is int else "numbers"
        raise SettingsError(
            f"{option} must be {numbers} with commas between, not {text!r}."
        ) from None


def _status(report: Report) -> int:
    if report.interrupted:
        return _STATUSES[report.interrupted]
    return int(not any(point.metrics.completed for point in report.points))
