"""`miao bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from miao_client.cli import arguments, output

_LOAD, _REQUESTS, _SLO, _RESULTS = "Load: one of these", "Requests", "Goodput", "Results"


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
    wait_when_busy: Annotated[
        float,
        typer.Option(
            help="Seconds in which a refused request comes back, when the service says to. "
            "Default: a refusal is a failure.",
            rich_help_panel=_REQUESTS,
        ),
    ] = 0.0,
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
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png|svg",
            help="Draw latency over throughput; needs the extra bench.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    target: arguments.Target = None,
    model: arguments.Model = None,
) -> None:
    """Measure a service under load: latencies, throughput, goodput.

    Ctrl-C ends it with what was measured until then.
    """
    from miao_client.bench import command  # the other commands need not wait for it
    from miao_client.bench.settings import Slo

    with output.reporting(), command.refusing():
        settings = command.settings(
            concurrency=concurrency,
            rate=rate,
            arrivals=arrivals,
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
            wait_when_busy=wait_when_busy,
            seed=seed,
            slo=Slo(ttft=slo_ttft, itl=slo_itl, tpot=slo_tpot, e2e=slo_e2e),
        )
        results = command.Results(json, records, plot)
        raise typer.Exit(command.run(target, model, settings, results))
