"""`miao plan`: fit, size, run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_LOAD, _GOAL, _FLEET, _RESULTS = "Load", "What callers must get", "Fleet", "Results"

Worker = Annotated[
    Path,
    typer.Argument(metavar="CALIBRATION", help="How fast a worker is: a file of miao plan fit."),
]
InputTokens = Annotated[
    str,
    typer.Option(
        metavar="N|KIND:...",
        help="Of a prompt: 512, uniform:16-1024, exponential:300, lognormal:MEDIAN:P99, "
        "normal:MEAN:DEVIATION.",
        rich_help_panel=_LOAD,
    ),
]
OutputTokens = Annotated[
    str, typer.Option(metavar="N|KIND:...", help="Of an answer.", rich_help_panel=_LOAD)
]
Lengths = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.jsonl",
        help="Instead: drawn from measured ones, lines with input_tokens and output_tokens.",
        rich_help_panel=_LOAD,
    ),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE.jsonl",
        help='A rate over time: lines of {"at": seconds, "rate": requests a second}.',
        rich_help_panel=_LOAD,
    ),
]
Arrivals = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.jsonl", help="A trace, as miao bench takes it.", rich_help_panel=_LOAD
    ),
]
Seconds = Annotated[
    float | None,
    typer.Option(
        help="In which requests come. Default: the profile's length, else 240.",
        rich_help_panel=_LOAD,
    ),
]
Warmup = Annotated[
    float | None,
    typer.Option(
        help="Seconds at the beginning that are not counted. Default: a quarter, at most 60; none "
        "of a trace or profile.",
        rich_help_panel=_LOAD,
    ),
]
CachedShare = Annotated[
    float,
    typer.Option(help="Of each prompt, found in the prefix cache.", rich_help_panel=_LOAD),
]
Seed = Annotated[int, typer.Option(help="Decides all that is drawn.", rich_help_panel=_LOAD)]
SloTtft = Annotated[
    float | None, typer.Option(help="Seconds to the first token.", rich_help_panel=_GOAL)
]
SloItl = Annotated[
    float | None, typer.Option(help="Seconds between two tokens.", rich_help_panel=_GOAL)
]
SloTpot = Annotated[
    float | None,
    typer.Option(help="Seconds for each further token on average.", rich_help_panel=_GOAL),
]
SloE2e = Annotated[float | None, typer.Option(help="Seconds to the end.", rich_help_panel=_GOAL)]
Percentile = Annotated[
    float,
    typer.Option(help="Of each figure, which its limit is for.", rich_help_panel=_GOAL),
]
GoodShare = Annotated[
    float | None,
    typer.Option(
        help="Of requests that must meet every limit at each place, from 0 to 1.",
        rich_help_panel=_GOAL,
    ),
]
Price = Annotated[
    float | None,
    typer.Option(help="Of one worker's hour, in any currency.", rich_help_panel=_FLEET),
]
Backlog = Annotated[
    int,
    typer.Option(
        help="Generations that may wait; further ones are refused. The front's default.",
        rich_help_panel=_FLEET,
    ),
]
Lease = Annotated[float, typer.Option(help="As of miao worker.", rich_help_panel=_FLEET)]
MaxSequences = Annotated[
    int | None,
    typer.Option(help="Of a batch. Default: the calibration's.", rich_help_panel=_FLEET),
]
MaxBatchTokens = Annotated[
    int | None,
    typer.Option(help="Of a step. Default: the calibration's.", rich_help_panel=_FLEET),
]
StartSeconds = Annotated[
    float | None,
    typer.Option(
        help="From asking for a worker until it serves. Default: the calibration's.",
        rich_help_panel=_FLEET,
    ),
]
Json = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write all figures.", rich_help_panel=_RESULTS),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png|svg", help="Draw it; needs the extra bench.", rich_help_panel=_RESULTS
    ),
]

plan = typer.Typer(
    help="Simulate a fleet: how many workers a load needs, what they cost, what a failure does.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(plan, name="plan")


@plan.command()
def fit(
    measurements: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="What miao bench --json FILE --records has written, or benchmarks/step_times.py.",
        ),
    ],
    result: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The calibration.")
    ] = Path("worker.json"),
    max_sequences: Annotated[int, typer.Option(help="As of miao worker.")] = 64,
    max_batch_tokens: Annotated[int, typer.Option(help="As of miao worker.")] = 2048,
    cache_tokens: Annotated[
        int | None,
        typer.Option(help="That the KV cache holds, as the worker says at start. Default: enough."),
    ] = None,
    start_seconds: Annotated[
        float | None,
        typer.Option(help="From asking for a worker until it serves. Default: 60, assumed."),
    ] = None,
) -> None:
    """Learn from a measurement how fast a worker is."""
    from miao_client.plan import command
    from miao_client.plan.calibration import Limits

    with command.refusing():
        limits = Limits(max_sequences, max_batch_tokens)
        if cache_tokens is not None:
            limits = Limits(max_sequences, max_batch_tokens, num_blocks=max(1, cache_tokens // 16))
        command.fit(measurements, limits, start_seconds, result)


@plan.command()
def size(
    calibration: Worker,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="R,...",
            help="Requests a second, as a Poisson process; several: an answer for each.",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    arrivals: Arrivals = None,
    input_tokens: InputTokens = "128",
    output_tokens: OutputTokens = "128",
    lengths: Lengths = None,
    seconds: Seconds = None,
    warmup: Warmup = None,
    cached_share: CachedShare = 0.0,
    seed: Seed = 0,
    slo_ttft: SloTtft = None,
    slo_itl: SloItl = None,
    slo_tpot: SloTpot = None,
    slo_e2e: SloE2e = None,
    percentile: Percentile = 99.0,
    good_share: GoodShare = None,
    with_failure: Annotated[
        bool,
        typer.Option(
            "--with-failure", help="And what it does when one worker dies.", rich_help_panel=_FLEET
        ),
    ] = False,
    simulated_workers: Annotated[
        int,
        typer.Option(
            help="The most that are simulated, with their share of the load.",
            rich_help_panel=_FLEET,
        ),
    ] = 8,
    price: Price = None,
    backlog_limit: Backlog = 1000,
    lease_seconds: Lease = 3.0,
    max_sequences: MaxSequences = None,
    max_batch_tokens: MaxBatchTokens = None,
    start_seconds: StartSeconds = None,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Find the fewest workers that are enough."""
    given = _given(locals())
    from miao_client.plan import calibration as calibrations
    from miao_client.plan import command
    from miao_client.plan.fleet import FleetSettings

    with command.refusing():
        results = command.Results(json, plot)
        found = calibrations.read(calibration).changed(
            max_sequences=max_sequences,
            max_batch_tokens=max_batch_tokens,
            start_seconds=start_seconds,
        )
        goal = _goal(slo_ttft, slo_itl, slo_tpot, slo_e2e, percentile, good_share)
        drawn = command.pairs(input_tokens, output_tokens, lengths)
        loads = [
            command.load_of(
                rate=each,
                profile=None,
                arrivals=arrivals,
                pairs=drawn,
                seconds=seconds,
                cached_share=cached_share,
            )
            for each in command.rates_of(rate)
        ]
        settings = FleetSettings(
            1,
            warmup=_warmup(warmup, None if arrivals else loads[0].seconds),
            backlog_limit=backlog_limit,
            lease_seconds=lease_seconds,
            slo=goal.slo,
            seed=seed,
        )
        status = command.sizes(
            found,
            loads,
            settings,
            goal,
            most_simulated=simulated_workers,
            with_failure=with_failure,
            price=price,
            results=results,
            options=given,
        )
    raise typer.Exit(status)


@plan.command()
def run(
    calibration: Worker,
    workers: Annotated[
        int | None,
        typer.Option(
            help="At the beginning. Default: the least of --autoscale.", rich_help_panel=_FLEET
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Requests a second, as a Poisson process.", rich_help_panel=_LOAD),
    ] = None,
    profile: ProfileFile = None,
    arrivals: Arrivals = None,
    input_tokens: InputTokens = "128",
    output_tokens: OutputTokens = "128",
    lengths: Lengths = None,
    seconds: Seconds = None,
    warmup: Warmup = None,
    cached_share: CachedShare = 0.0,
    seed: Seed = 0,
    slo_ttft: SloTtft = None,
    slo_itl: SloItl = None,
    slo_tpot: SloTpot = None,
    slo_e2e: SloE2e = None,
    percentile: Percentile = 99.0,
    good_share: GoodShare = None,
    fail: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECOND[:WORKERS[:BACK]]",
            help="Workers die then; others are there after BACK seconds (default: a start; "
            "never). May be given again.",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    failure_hours: Annotated[
        float | None,
        typer.Option(help="A worker dies after so long on average.", rich_help_panel=_FLEET),
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option(
            metavar="LEAST:MOST",
            help="Workers come and go by Kubernetes' rule, with KEDA's for zero.",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    autoscale_target: Annotated[
        float | None,
        typer.Option(
            help="Generations a worker should have. Default: three quarters of its batch.",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    autoscale_poll: Annotated[
        float | None,
        typer.Option(help="Seconds between two looks. Default: 15.", rich_help_panel=_FLEET),
    ] = None,
    autoscale_hold: Annotated[
        float | None,
        typer.Option(help="Seconds before fewer are wanted. Default: 300.", rich_help_panel=_FLEET),
    ] = None,
    autoscale_idle: Annotated[
        float | None,
        typer.Option(help="Seconds without work until zero. Default: 300.", rich_help_panel=_FLEET),
    ] = None,
    slice_: Annotated[
        int | None,
        typer.Option(
            "--slice",
            help="Simulate one K-th of load and fleet. Default: so that a million requests come.",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    drain_seconds: Annotated[
        float, typer.Option(help="As of miao worker.", rich_help_panel=_FLEET)
    ] = 20.0,
    price: Price = None,
    backlog_limit: Backlog = 1000,
    lease_seconds: Lease = 3.0,
    max_sequences: MaxSequences = None,
    max_batch_tokens: MaxBatchTokens = None,
    start_seconds: StartSeconds = None,
    json: Json = None,
    plot: Plot = None,
) -> None:
    """Simulate one fleet, with its failures and its scaling.

    The exit status is 1 where callers do not get what they must.
    """
    given = _given(locals())
    from miao_client.plan import calibration as calibrations
    from miao_client.plan import command
    from miao_client.plan.fleet import FleetSettings

    with command.refusing():
        results = command.Results(json, plot)
        found = calibrations.read(calibration).changed(
            max_sequences=max_sequences,
            max_batch_tokens=max_batch_tokens,
            start_seconds=start_seconds,
        )
        goal = _goal(slo_ttft, slo_itl, slo_tpot, slo_e2e, percentile, good_share)
        load = command.load_of(
            rate=rate,
            profile=profile,
            arrivals=arrivals,
            pairs=command.pairs(input_tokens, output_tokens, lengths),
            seconds=seconds,
            cached_share=cached_share,
        )
        rule = command.autoscaling_of(
            autoscale,
            found,
            target=autoscale_target,
            poll_seconds=autoscale_poll,
            hold_seconds=autoscale_hold,
            idle_seconds=autoscale_idle,
        )
        settings = FleetSettings(
            workers if workers is not None else (rule.least if rule else 1),
            warmup=_warmup(warmup, load.seconds if rate is not None else None),
            backlog_limit=backlog_limit,
            lease_seconds=lease_seconds,
            drain_seconds=drain_seconds,
            failures=command.failures_of(fail or []),
            failure_hours=failure_hours,
            autoscaling=rule,
            slo=goal.slo,
            seed=seed,
        )
        status = command.run(
            found,
            load,
            settings,
            goal,
            slice_of=slice_,
            price=price,
            results=results,
            options=given,
        )
    raise typer.Exit(status)


def _goal(
    ttft: float | None,
    itl: float | None,
    tpot: float | None,
    e2e: float | None,
    percentile: float,
    good_share: float | None,
) -> Any:
    from miao_client.bench.settings import Slo
    from miao_client.plan.question import Goal

    return Goal(Slo(ttft=ttft, itl=itl, tpot=tpot, e2e=e2e), percentile, good_share)


def _warmup(stated: float | None, seconds: float | None) -> float:
    """seconds: of a load whose beginning is not to be counted."""
    if stated is not None:
        return stated
    return 0.0 if seconds is None else min(60.0, seconds / 4)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON has them."""
    return {
        name.rstrip("_"): str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }
