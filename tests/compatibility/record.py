"""`python -m tests.compatibility.record COMMIT`: make another version the one before this.

Runs that version's programs, leaves generations waiting, running and ended in its Redis, and
keeps what is there, its contract and its name. Done once for each release.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from redis import Redis

from miao_client import AsyncClient, GenerationState

from ..chaos.fleet import Fleet, FleetSettings
from . import baseline
from .baseline import Baseline
from .checkout import ROOT, Checkout
from .recording import Recording, snapshot
from .specs import PROTECTION, SPECS, State, begin, create


async def record(commit: str, folder: Path) -> Recording:
    """What that version's programs leave when all workers die."""
    host = Checkout(commit, folder / "previous")
    fleet = Fleet(
        FleetSettings(
            folder,
            num_workers=1,
            front_environ={"MIAO_QUEUE_WITHOUT_WORKER": "yes"},
            front_hosts=[host],
            worker_hosts=[host],
        )
    )
    try:
        await fleet.start()
        async with AsyncClient(fleet.targets) as client:
            said = {name: await _say(client, name) for name in SPECS}
            await begin(client)
            fleet.workers[0].signal(signal.SIGKILL)
            await fleet.workers[0].wait_ended()
            for name in SPECS:
                await create(client, name, State.WAITING)
            states = await _states(client)
        with Redis.from_url(fleet.redis_url) as redis:
            return snapshot(redis, said, states)
    finally:
        await fleet.stop()


async def _say(client: AsyncClient, name: str) -> list[int]:
    prompt, options = SPECS[name]
    stream = client.generate(prompt, request_id=f"{name}-{State.ENDED}", **options)
    result = await stream.result()
    return [i for answer in result.answers for i in answer.token_ids]


async def _states(client: AsyncClient) -> dict[str, str]:
    found = {}
    async for generation in client.list(page_size=1000):
        found[generation.generation_id] = generation.state.value
    assert GenerationState.RUNNING.value in found.values(), "all ended before the worker did"
    return found


def write_contract(checkout: Path) -> None:
    """The descriptors of a version's contract."""
    proto = checkout / "proto"
    files = [str(path.relative_to(proto)) for path in sorted(proto.rglob("*.proto"))]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--include_imports"]
    command.append(f"--descriptor_set_out={baseline.CONTRACT}")
    subprocess.run([*command, *files], cwd=proto, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility.record")
    parser.add_argument("commit", help="of the version that was released")
    parser.add_argument("--version", required=True, help="its name")
    arguments = parser.parse_args()
    whole = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", f"{arguments.commit}^{{commit}}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in (baseline.REDIS, baseline.SEALED):
            if place == baseline.SEALED:
                os.environ |= PROTECTION
            (folder / place.stem).mkdir()
            recording = asyncio.run(record(whole, folder / place.stem))
            recording.write(place)
            print(recording.summary())
        write_contract(folder / baseline.REDIS.stem / "previous")
    baseline.write(Baseline(arguments.version, whole))


if __name__ == "__main__":
    main()
