"""A front under attack, and what must hold of it afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from miao_client import AsyncClient
from tests.fuzz.attack import Attack, Outcome
from tests.fuzz.worker import EchoWorker, encoder_cards

_READY = "front listening on "
_CALLS_PER_ROUND = 100
_SHOWN_POINTS = 20  # of the memory's course


@dataclass
class Report:
    """How the calls ended, and what the front has become."""

    outcomes: Counter[Outcome]
    seconds: float
    grown_bytes: int  # since the first rounds, when caches were filled
    grown_files: int
    log: str
    course: list[tuple[int, int]]  # calls so far, and the front's memory then, in bytes

    @property
    def faults(self) -> list[str]:
        """What must not be: each fault in words."""
        found = [
            f"{count} x {name}: {code}"
            for (name, code), count in self.outcomes.items()
            if code in ("INTERNAL", "UNKNOWN")
        ]
        if self.grown_bytes > 250 * 1024 * 1024:  # texts of megabytes come and go
            found.append(f"the front has grown by {self.grown_bytes >> 20} MiB")
        if self.grown_files > 30:
            found.append(f"the front holds {self.grown_files} more files")
        # gRPC says so itself where a caller leaves at the very moment of its answer.
        errors = [line for line in self.log.splitlines() if " ERROR " in line]
        return found + [line for line in errors if "ExecuteBatchError raised in core" not in line]

    def __str__(self) -> str:
        memory, files = self.grown_bytes / 2**20, self.grown_files
        lines = [
            f"{self.outcomes.total()} calls in {self.seconds:.0f} s; "
            f"memory {memory:+.1f} MiB, files {files:+d}"
        ]
        for code in sorted({code for _, code in self.outcomes}):
            names = Counter({n: count for (n, c), count in self.outcomes.items() if c == code})
            shown = ", ".join(f"{name} {count}" for name, count in names.most_common(4))
            lines.append(f"  {code:20} {names.total():8}  {shown}")
        step = max(1, len(self.course) // _SHOWN_POINTS)
        shown = [f"{calls} {size >> 20}" for calls, size in self.course[::step]]
        lines.append(f"  calls and MiB: {', '.join(shown)}")
        return "\n".join([*lines, *(f"FAULT {fault}" for fault in self.faults)])


async def run(redis_url: str, seconds: float, seed: int, callers: int = 8) -> Report:
    """Attack a front of its own for so long; it must answer rightly at the end."""
    outcomes: Counter[Outcome] = Counter()
    with _workers(redis_url, seed), tempfile.TemporaryFile("w+") as log:
        async with _front(redis_url, log.fileno()) as (process, target):
            began = time.monotonic()
            await _round(target, seed, callers, outcomes)
            before = _size(process)
            course = [(outcomes.total(), before[0])]
            number = 1
            while time.monotonic() - began < seconds:
                await _round(target, seed + number * callers, callers, outcomes)
                course.append((outcomes.total(), _size(process)[0]))
                number += 1
            await Attack(target, seed, outcomes).send_too_much()
            await _check_answers(target)
            after = await _settled(process, before)
            assert process.is_running(), "the front has ended"
            took = time.monotonic() - began
        log.seek(0)
        text = log.read()
    return Report(outcomes, took, after[0] - before[0], after[1] - before[1], text, course)


@contextmanager
def _workers(redis_url: str, seed: int) -> Iterator[None]:
    """One that generates and scores, and those of the encoders."""
    with ExitStack() as stack:
        for card in (None, *encoder_cards()):
            stack.enter_context(EchoWorker(redis_url, seed, card))
        yield


async def _round(target: str, seed: int, callers: int, outcomes: Counter[Outcome]) -> None:
    attacks = [Attack(target, seed + index, outcomes) for index in range(callers)]
    await asyncio.gather(*(attack.run(_CALLS_PER_ROUND) for attack in attacks))


async def _check_answers(target: str) -> None:
    async with AsyncClient(target) as client:
        result = await client.generate("hello", timeout=30).result()
        assert result.finish_reason == "stop"
        assert len((await client.embed("hello", timeout=30)).vectors[0]) == 8
        assert (await client.rerank("hello", ["a", "b"], timeout=30)).results[0].score == 0.5
        assert (await client.classify("hello", timeout=30)).classifications[0].best.score == 0.5
        assert (await client.score("hello", timeout=30)).log_likelihood == -4
        assert len((await client.explain("hello", timeout=30)).attributions[0].scores) == 5
        assert (await client.explain_label("hello", timeout=30)).labels[0].score == 0.5


async def _settled(process: psutil.Process, before: tuple[int, int]) -> tuple[int, int]:
    """Its size when the last connections are gone, or what it is after a while."""
    deadline = time.monotonic() + 5
    while _size(process)[1] > before[1] and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return _size(process)


def _size(process: psutil.Process) -> tuple[int, int]:
    return process.memory_info().rss, process.num_fds()


@asynccontextmanager
async def _front(redis_url: str, log: int) -> AsyncIterator[tuple[psutil.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "miao_service", "--listen", "127.0.0.1:0"),
        *("--redis-url", redis_url, "--drain-seconds", "0.2"),
        cwd=Path(__file__).parents[2],
        env=os.environ | {"GRPC_VERBOSITY": "NONE"},
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
        assert line.startswith(_READY), line
        yield psutil.Process(process.pid), line.removeprefix(_READY)
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0, "the front did not end well"
