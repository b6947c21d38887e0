"""Callers of the SDK, and what each does with its generation."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from miao_client import (
    AsyncClient,
    AsyncGenerationStream,
    Chunk,
    DataLossError,
    FinishReason,
    Generation,
    GenerationFailedError,
    GenerationState,
    GenerationStream,
    MiaoError,
)

from .clients import PATIENCE, Clients
from .observation import Expected, Fault, Observation
from .wire import WireCaller

_END_SECONDS = 300.0  # the longest that a generation may take in all
_LOOK_SECONDS = 0.2
_ROOT = Path(__file__).parents[2]

Act = Callable[[Clients, Observation, Random], Awaitable[None]]


async def call(way: str, clients: Clients, seen: Observation, random: Random) -> None:
    """Make one generation in this way; whatever goes wrong is noted."""
    try:
        async with asyncio.timeout(_END_SECONDS):
            await WAYS[way].act(clients, seen, random)
    except TimeoutError:
        seen.blame(Fault.LOST, f"no end in {_END_SECONDS:.0f} s")
    except DataLossError as error:
        seen.blame(Fault.LOST, f"{type(error).__name__}: {error}")
    except GenerationFailedError as error:
        seen.blame(Fault.ERROR, f"it ended with an error: {error.reason} {error}")
    except MiaoError as error:
        seen.blame(Fault.ERROR, f"{type(error).__name__}: {error}")
    except Exception as error:
        seen.blame(Fault.ERROR, f"not an error of the SDK: {error!r}")
    finally:
        seen.ended = seen.ended or time.monotonic()


async def read(clients: Clients, seen: Observation, random: Random) -> None:
    """Read to the end, in a task."""
    stream = clients.async_client(random).generate(seen.spec.prompt, **seen.spec.options)
    async for chunk in stream:
        _take(seen, stream, chunk)
    seen.finish()
    seen.compare_result(await stream.result())


async def read_in_thread(clients: Clients, seen: Observation, random: Random) -> None:
    """Read to the end, in a thread."""
    stream = clients.client(random).generate(seen.spec.prompt, **seen.spec.options)

    def work() -> None:
        for chunk in stream:
            _take(seen, stream, chunk)
        seen.finish()
        seen.compare_result(stream.result())

    try:
        await clients.in_thread(work)
    except asyncio.CancelledError:
        await asyncio.to_thread(stream.close)
        raise


async def read_wire(clients: Clients, seen: Observation, random: Random) -> None:
    """Read the bare events."""
    await WireCaller(clients.route(random), seen).read()


async def cancel(clients: Clients, seen: Observation, random: Random) -> None:
    """Cancel in words, and read what still comes."""
    place = _place(seen, random)
    stream = clients.async_client(random).generate(seen.spec.prompt, **seen.spec.options)
    async for chunk in stream:
        _take(seen, stream, chunk)
        if seen.seen >= place and not seen.was_cancelled:
            seen.was_cancelled = True
            await stream.cancel()
    seen.finish()
    result = await stream.result()
    seen.ran_on = result.finish_reason is not FinishReason.CANCELLED
    if seen.ran_on:
        seen.compare_result(result)
    else:
        seen.compare_part()


async def leave(clients: Clients, seen: Observation, random: Random) -> None:
    """Close the stream early, and see that the generation ends."""
    place = _place(seen, random)
    client = clients.async_client(random)
    async with client.generate(seen.spec.prompt, **seen.spec.options) as stream:
        async for chunk in stream:
            _take(seen, stream, chunk)
            if seen.seen >= place:
                break
    seen.was_cancelled = True
    await _await_end(client, seen)


async def leave_and_return(clients: Clients, seen: Observation, random: Random) -> None:
    """Leave a generation that is to go on, and read the rest later as somebody else."""
    place = _place(seen, random)
    options: Any = seen.spec.options | {"on_disconnect": "continue"}
    async with clients.async_client(random).generate(seen.spec.prompt, **options) as stream:
        async for chunk in stream:
            _take(seen, stream, chunk)
            if seen.seen >= place:
                break
    seen.depart()
    await asyncio.sleep(random.uniform(0, 4))
    async with AsyncClient(clients.route(random), **PATIENCE) as fresh:
        await _follow(fresh, seen)


async def die(clients: Clients, seen: Observation, random: Random) -> None:
    """Be killed in the midst of it; somebody else looks what became of it."""
    place, goes_on = _place(seen, random), random.random() < 0.5
    leaving = "continue" if goes_on else "cancel"
    told = {
        "targets": clients.route(random),
        "patience": PATIENCE,
        "prompt": seen.spec.prompt,
        "options": seen.spec.options | {"on_disconnect": leaving},
    }
    seen.generation_id = await _run_until(json.dumps(told), place)
    client = clients.async_client(random)
    if goes_on:
        await _follow(client, seen)
    else:
        seen.was_cancelled = True
        await _await_end(client, seen)


@dataclass(frozen=True, slots=True)
class _Way:
    act: Act
    weight: float
    leaves: bool = False  # before the end, which is then to be far enough away


WAYS = {
    "task": _Way(read, 4.0),
    "thread": _Way(read_in_thread, 4.0),
    "wire": _Way(read_wire, 4.0),
    "cancel": _Way(cancel, 0.7, leaves=True),
    "leave": _Way(leave, 0.7, leaves=True),
    "return": _Way(leave_and_return, 1.5, leaves=True),
    "die": _Way(die, 0.6, leaves=True),
}


def choose(random: Random) -> str:
    """A way of calling, by its weight."""
    weights = [way.weight for way in WAYS.values()]
    return random.choices(list(WAYS), weights)[0]


def _take(
    seen: Observation, stream: AsyncGenerationStream | GenerationStream, chunk: Chunk
) -> None:
    seen.generation_id = stream.generation_id
    seen.note_attempt(chunk.attempt)
    seen.take(chunk.sequence_number, chunk.token_ids, chunk.text, chunk.logprobs)


def _place(seen: Observation, random: Random) -> int:
    """After how many tokens a caller goes away: in the first half."""
    assert isinstance(seen.expected, Expected)
    return random.randint(1, max(1, len(seen.expected.token_ids) // 2))


async def _follow(client: AsyncClient, seen: Observation) -> None:
    stream = client.follow(seen.generation_id or "", after=seen.seen)
    async for chunk in stream:
        _take(seen, stream, chunk)
    seen.finish()
    result = await stream.result()
    seen.attempts = result.attempts
    seen.compare_whole(result.finish_reason, result.stopped_by)


async def _await_end(client: AsyncClient, seen: Observation) -> None:
    """Look until it has ended, then compare what it had said."""
    while True:
        generation: Generation = await client.get(seen.generation_id or "", include_output=True)
        if generation.state is GenerationState.FINISHED:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    seen.ended = time.monotonic()
    ending, output = generation.ending, generation.output
    assert ending is not None
    assert output is not None
    if len(output.token_ids) < seen.seen:
        seen.blame(Fault.LOST, f"{len(output.token_ids)} tokens are left of {seen.seen}")
    seen.token_ids, seen.texts = list(output.token_ids), [output.text]
    seen.ran_on = ending.reason is not FinishReason.CANCELLED
    seen.compare_part()
    if ending.reason is FinishReason.ERROR:
        seen.blame(Fault.ERROR, f"it ended with an error: {ending.error_message}")


async def _run_until(told: str, place: int) -> str:
    """Start a lone caller, kill it when it has seen so many tokens; the generation's id."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.lone_caller"),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(told.encode())
        process.stdin.write_eof()
        generation_id = (await process.stdout.readline()).decode().strip()
        while (line := await process.stdout.readline()) and int(line) < place:
            pass
        return generation_id
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
