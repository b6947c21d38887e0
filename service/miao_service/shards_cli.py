"""`miao shards`: each of several Redis, what it has, and whether it may be taken away."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from redis.exceptions import RedisError

from miao_queue import keys
from miao_queue.addresses import AddAddress, RedisUrlError, Shard, ShardMap
from miao_queue.connection import connect_async

_ANSWER_SECONDS = 5.0
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What one Redis has.

    workers: that live; waiting and running: generations; kept: generations, ended ones too, that
    can still be asked for; usage_tenants: those with usage records or sums there.
    """

    name: str
    state: str
    answers: bool
    workers: int = 0
    waiting: int = 0
    running: int = 0
    kept: int = 0
    usage_tenants: int = 0


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status, 1 where one does not answer."""
    arguments = _parser().parse_args(argv)
    try:
        shards = ShardMap.parse(arguments.redis_url).shards
    except RedisUrlError as error:
        print(f"miao shards: {error}", file=sys.stderr)
        return 2
    reports = asyncio.run(_look(shards))
    if arguments.json:
        print(json.dumps([asdict(report) for report in reports]))
    else:
        _show(reports)
    return 0 if all(report.answers for report in reports) else 1


async def _look(shards: Any) -> list[ShardReport]:
    return list(await asyncio.gather(*map(_report, shards)))


async def _report(shard: Shard) -> ShardReport:
    client: Any = connect_async(shard.url, max_connections=2)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            seconds, _ = await client.time()
            models = [name.decode() for name in await client.smembers(keys.MODELS)]
            workers = set()
            for model in models:
                workers |= set(
                    await client.zrangebyscore(keys.workers(model), seconds * 1000, "+inf")
                )
            tenants = [name.decode() for name in await client.smembers(keys.USAGE_TENANTS)]
            return ShardReport(
                shard.name,
                shard.state.value,
                answers=True,
                workers=len(workers),
                waiting=await client.zcard(keys.WAITING),
                running=await client.zcard(keys.LEASES),
                kept=sum([await _num_kept(client, tenant) for tenant in tenants]),
                usage_tenants=len(tenants),
            )
    except (RedisError, OSError, TimeoutError):
        return ShardReport(shard.name, shard.state.value, answers=False)
    finally:
        await client.aclose()


async def _num_kept(client: Any, tenant: str) -> int:
    count, start = 0, 0
    while names := await client.zrange(keys.tenant(tenant), start, start + _BATCH - 1):
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.exists(keys.generation(name.decode()))
        count += sum(await pipeline.execute())
        start += _BATCH
    return count


def _show(reports: list[ShardReport]) -> None:
    rows = [("NAME", "STATE", "ANSWERS", "WORKERS", "WAITING", "RUNNING", "KEPT", "")]
    for report in reports:
        counts = (report.workers, report.waiting, report.running, report.kept)
        shown = map(str, counts) if report.answers else ("-",) * len(counts)
        answers = "yes" if report.answers else "no"
        rows.append((report.name, report.state, answers, *shown, _remark(report)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _remark(report: ShardReport) -> str:
    if report.state != "draining" or not report.answers:
        return ""
    if report.waiting or report.running or report.kept:
        return "keep it: callers may ask for what it has"
    if report.usage_tenants:
        return "empty; its usage goes with it"
    return "empty"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="miao shards",
        description="Show each Redis of a fleet: what it has, and whether a draining one is empty.",
    )
    parser.add_argument(
        "--redis-url",
        action=AddAddress,
        default=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        metavar="URL",
        help="the fronts' list: NAME=URL or NAME:STATE=URL each, in a list or by saying it again",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
