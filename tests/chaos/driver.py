"""One run of chaos from its start to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

from miao_client import AsyncClient, GenerationState

from . import callers, schedule, verdict
from .clients import PATIENCE, Clients
from .failures import Failures
from .fleet import Fleet, FleetSettings
from .observation import Expected, Observation
from .process import Process
from .proxy import Proxy
from .reference import Reference
from .schedule import SAFE_KINDS, Failure, Kind
from .specs import Spec, make_specs
from .verdict import Run

_CALM_WAYS = (*callers.WAYS, "cancel", "leave", "die")
_SETTLE_SECONDS = 30.0
_UNLIKE = "DIFFERENT undisturbed, most outputs are not what transformers says in float64"


@dataclass(frozen=True, slots=True)
class ChaosSettings:
    """How long, how much, and how to mishandle it.

    most_tokens: of one generation.
    pause_seconds: between failures that do not overlap, at least and at most.
    worker_kind: how workers are started.
    failures: which come when; none: as follows from seed, seconds, kinds and pause_seconds.
    """

    seed: int
    seconds: float
    folder: Path
    num_callers: int = 24
    num_specs: int = 48
    most_tokens: int = 800
    kinds: Sequence[Kind] = SAFE_KINDS
    pause_seconds: tuple[float, float] = (5.0, 14.0)
    worker_kind: type[Process] = Process
    make_fleet: Callable[[FleetSettings], Fleet] = Fleet
    make_failures: type[Failures] = Failures
    failures: Sequence[Failure] = ()
    say: Callable[[str], None] = print


@dataclass(slots=True)
class Outcome:
    """What came of a run: its violations, and the report on it."""

    violations: list[str]
    report: str
    rows: Sequence[verdict.Row] = ()


@dataclass(slots=True)
class _Scene:
    """What a run works with."""

    settings: ChaosSettings
    fleet: Fleet
    proxies: Sequence[Proxy]
    clients: Clients
    reference: Reference
    specs: Sequence[Spec]
    expected: dict[int, Expected] = field(default_factory=dict)

    def observe(self, way: str, random: Random) -> Observation:
        """One generation to be made in this way; a long one for who leaves it early."""
        least = self.settings.most_tokens // 3 if callers.WAYS[way].leaves else 1
        lengths = {spec.index: len(self.expected[spec.index].token_ids) for spec in self.specs}
        least = min(least, max(lengths.values()))
        spec = random.choice([spec for spec in self.specs if lengths[spec.index] >= least])
        return Observation(spec, way, self.expected[spec.index])


async def run(settings: ChaosSettings) -> Outcome:
    """Start a fleet, learn what it says undisturbed, disturb it, and judge."""
    settings.say(f"seed {settings.seed}, logs in {settings.folder}")
    async with _scene(settings) as scene:
        undisturbed = await _undisturbed(scene)
        if not await _drop_undecided(scene):
            return Outcome([_UNLIKE], _UNLIKE)
        calm = await _calm(scene)
        chaos = await _chaos(scene)
        left = await _look_at_what_is_left(scene)
    return _judge(settings, undisturbed, calm, chaos, left)


@contextlib.asynccontextmanager
async def _scene(settings: ChaosSettings) -> AsyncIterator[_Scene]:
    is_lossy = Kind.REDIS_LOSS in settings.kinds
    appendfsync = "everysec" if is_lossy else "always"
    kind = settings.worker_kind
    fleet = settings.make_fleet(
        FleetSettings(settings.folder, appendfsync=appendfsync, worker_kind=kind)
    )
    proxies = [Proxy(target) for target in fleet.targets]
    for proxy in proxies:
        await proxy.start()
    proxied = [proxy.target for proxy in proxies]
    routes = [fleet.targets, fleet.targets[::-1], proxied, proxied[::-1]]
    clients = Clients(routes, settings.num_callers)
    try:
        began = time.monotonic()
        loading = asyncio.to_thread(Reference)
        _, reference = await asyncio.gather(fleet.start(), loading)
        settings.say(f"the fleet is up after {time.monotonic() - began:.1f} s")
        specs = make_specs(settings.seed, settings.num_specs, settings.most_tokens)
        yield _Scene(settings, fleet, proxies, clients, reference, specs)
    finally:
        await clients.close()
        for proxy in proxies:
            await proxy.close()
        began = time.monotonic()
        await fleet.stop()
        settings.say(f"the fleet is down after {time.monotonic() - began:.1f} s")
        fleet.remove_data()


async def _undisturbed(scene: _Scene) -> Run:
    """Each spec once; what it says is what it must say from now on."""
    client = scene.clients.async_client(Random(0))
    room = asyncio.Semaphore(scene.settings.num_callers)

    async def ask(spec: Spec) -> Observation:
        seen = Observation(spec, "undisturbed", None)
        async with room:
            stream = client.generate(spec.prompt, **spec.options)
            async for chunk in stream:
                seen.take(chunk.sequence_number, chunk.token_ids, chunk.text, chunk.logprobs)
            result = await stream.result()
        seen.finish()
        seen.compare_result(result)
        scene.expected[spec.index] = Expected.of(result)
        return seen

    began = time.monotonic()
    run = Run(await asyncio.gather(*map(ask, scene.specs)), began=began)
    tokens = sum(len(expected.token_ids) for expected in scene.expected.values())
    took = time.monotonic() - began
    scene.settings.say(
        f"undisturbed: {len(scene.specs)} generations, {tokens} tokens, {tokens / took:.0f} "
        f"tokens/s; pauses p50, p99, max: {' '.join(verdict.pauses(run.observations).cells())} s"
    )
    return run


async def _drop_undecided(scene: _Scene) -> bool:
    """Go on with the specs whose every token is beyond rounding; False if they are too few."""
    client = scene.clients.async_client(Random(0))
    decided = []
    for spec in scene.specs:
        prompt = await client.tokenize(spec.prompt)
        output = scene.expected[spec.index].token_ids
        if await asyncio.to_thread(
            scene.reference.is_decided, prompt.token_ids, output, spec.options
        ):
            decided.append(spec)
    scene.settings.say(f"{len(decided)} of {len(scene.specs)} specs have no draw on an edge")
    enough = len(decided) > len(scene.specs) / 2
    scene.specs = decided
    return enough


async def _calm(scene: _Scene) -> Run:
    """Each way of calling once or twice, while nothing fails."""
    random = Random(f"calm {scene.settings.seed}")
    began = time.monotonic()
    observations = [scene.observe(way, random) for way in _CALM_WAYS]
    await asyncio.gather(
        *(callers.call(seen.behaviour, scene.clients, seen, random) for seen in observations)
    )
    run = Run(observations, began=began)
    verdict.check_cancelled(run)
    scene.settings.say(f"calm: {len(observations)} callers, none disturbed")
    return run


async def _chaos(scene: _Scene) -> Run:
    settings, observations = scene.settings, list[Observation]()
    began = time.monotonic()
    settings.say(f"the chaos begins at {datetime.now():%H:%M:%S}")

    def say(text: str) -> None:
        settings.say(f"{time.monotonic() - began:7.1f} s  {text}")

    failures = settings.make_failures(scene.fleet, scene.proxies, say)
    plan = settings.failures or schedule.plan(
        settings.seed, settings.seconds, settings.kinds, settings.pause_seconds
    )
    over = asyncio.Event()
    watching = asyncio.create_task(failures.watch())
    try:
        async with asyncio.TaskGroup() as tasks:
            for number in range(settings.num_callers):
                tasks.create_task(_call_on(scene, number, observations, over))
            await failures.run(plan)
            over.set()
            say("no more failures; callers finish what they have begun")
    finally:
        watching.cancel()
    say("all callers are done")
    run = Run(observations, failures.events, failures.faults, began)
    verdict.check_cancelled(run)
    return run


async def _call_on(
    scene: _Scene, number: int, observations: list[Observation], over: asyncio.Event
) -> None:
    """One caller: a generation after the other until it is over."""
    random = Random(f"caller {scene.settings.seed} {number}")
    while not over.is_set():
        seen = scene.observe(callers.choose(random), random)
        observations.append(seen)
        await callers.call(seen.behaviour, scene.clients, seen, random)


async def _look_at_what_is_left(scene: _Scene) -> list[str]:
    """Once all callers are served, nothing may wait or run, and every worker must be seen."""
    async with AsyncClient(scene.fleet.targets, **PATIENCE) as client:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while left := await _left(client, len(scene.fleet.workers)):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        return [*left, *await _wrongly_billed(client)]


async def _left(client: AsyncClient, num_workers: int) -> list[str]:
    model = await client.model()
    left = [
        f"LOST generation {generation.generation_id} is still {generation.state.value}"
        async for generation in client.list(page_size=1000)
        if generation.state is not GenerationState.FINISHED
    ]
    if model.num_workers != num_workers:
        left.append(f"FLEET fronts see {model.num_workers} workers instead of {num_workers}")
    if model.num_queued:
        left.append(f"FLEET {model.num_queued} generations are still queued")
    return left


async def _wrongly_billed(client: AsyncClient) -> list[str]:
    """Each generation that has ended must be on the bill once, with what its caller was told."""
    billed: defaultdict[str, list[int]] = defaultdict(list)
    token = ""
    while (page := await client.usage_records(page_size=1000, page_token=token)).records:
        for record in page.records:
            billed[record.generation_id].append(record.output_tokens)
        token = page.next_page_token
    wrong = [f"BILL generation {name} twice" for name, each in billed.items() if len(each) > 1]
    async for generation in client.list(page_size=1000):
        if not generation.attempt or generation.ending is None or generation.ending.usage is None:
            continue
        told = generation.ending.usage.output_tokens
        if billed[generation.generation_id] != [told]:
            found = billed[generation.generation_id]
            wrong.append(f"BILL generation {generation.generation_id}: {found}, told {told}")
    return wrong


def _judge(
    settings: ChaosSettings, undisturbed: Run, calm: Run, chaos: Run, left: list[str]
) -> Outcome:
    found = [text for run in (undisturbed, calm, chaos) for text in verdict.violations(run)]
    found += left
    tokens = sum(len(seen.token_ids) for seen in chaos.observations)
    lines = [
        f"seed {settings.seed}: {len(chaos.events)} failures, {len(chaos.observations)} "
        f"generations, {tokens} tokens, {len(found)} violations",
        "",
        verdict.table(chaos),
        "",
        "undisturbed pauses p50, p99, max: "
        + " ".join(verdict.pauses(undisturbed.observations).cells()),
    ]
    report = "\n".join([*lines, *(["", *found] if found else [])])
    return Outcome(found, report, verdict.failure_rows(chaos))
