"""`miao keys`: make, list and revoke API keys."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.exceptions import RedisError

from miao_queue.addresses import AddAddress, Shard, ShardMap
from miao_queue.audit import KEPT
from miao_queue.connection import RedisUrlError, connect_async, redact_url
from miao_queue.key_ring import KeyRing, KeyRingError, new_line
from miao_service.auth.api_keys import ApiKey, ApiKeyStore
from miao_service.auth.identity import ALL_SCOPES, Scope, is_tenant
from miao_service.auth.key_stores import KeyStores

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST_LABEL_CHARS = 100


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "new-pepper":
            print(new_line(arguments.id))
            return 0
        return asyncio.run(_run(arguments, _peppers(arguments)))
    except (RedisUrlError, KeyRingError) as error:
        return _complain(str(error), 2)
    except (RedisError, OSError) as error:
        address = ", ".join(redact_url(shard.url) for shard in _shards(arguments))
        return _complain(f"Redis at {address} cannot be used: {error}", 1)


def _peppers(arguments: argparse.Namespace) -> KeyRing:
    """Those that a new key needs; the other commands look at no secret."""
    if arguments.command != "create":
        return KeyRing({})
    if not arguments.pepper:
        raise KeyRingError("name the file of peppers: --pepper or MIAO_API_KEY_PEPPER")
    return KeyRing.read(arguments.pepper)


async def _run(arguments: argparse.Namespace, peppers: KeyRing) -> int:
    shards = _shards(arguments)
    connections = {shard.name: connect_async(shard.url) for shard in shards}
    try:
        user = unquote(urlsplit(shards[0].url).username or "default")
        kept = getattr(arguments, "audit_entries", 0)
        stores = KeyStores(
            {
                # Of what is done to all, one tells.
                name: ApiKeyStore(connection, peppers, f"redis:{user}", 0 if number else kept)
                for number, (name, connection) in enumerate(connections.items())
            }
        )
        status = await _COMMANDS[arguments.command](stores, arguments)
        for name, why in stores.silent.items():
            text = f"the Redis {name} does not know of it, since it does not answer ({why}): "
            status = _complain(text + "run `miao keys sync` when it does", 1)
        return status
    finally:
        for connection in connections.values():
            await connection.aclose()


def _shards(arguments: argparse.Namespace) -> Sequence[Shard]:
    return ShardMap.parse(arguments.redis_url).shards


async def _create(store: KeyStores, arguments: argparse.Namespace) -> int:
    key, text = await store.create(
        arguments.tenant, arguments.scopes, arguments.expires, arguments.label
    )
    if arguments.json:
        print(json.dumps(_as_json(key) | {"key": text}))
        return 0
    print(text)
    end = f"until {_time(key.expires_ms)}" if key.expires_ms else "without end"
    print(f"for {key.tenant}, {end}; it is shown this once", file=sys.stderr)
    return 0


async def _list(store: KeyStores, arguments: argparse.Namespace) -> int:
    found = await store.list(arguments.tenant)
    if arguments.json:
        print(json.dumps([_as_json(key) for key in found]))
        return 0
    rows: list[tuple[str, ...]] = [
        ("ID", "TENANT", "SCOPES", "STATE", "MADE", "EXPIRES", "LAST USED", "LABEL")
    ]
    rows += map(_row, found)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    return 0


async def _revoke(store: KeyStores, arguments: argparse.Namespace) -> int:
    # The whole key is taken too: that is what somebody has who has found one in a log.
    parts = arguments.id.split("_")
    key_id = parts[1] if len(parts) == 3 else arguments.id
    if not await store.revoke(key_id):
        return _complain("there is no key of this id", 1)
    print("revoked; fronts that have seen it refuse it within --api-key-cache-seconds")
    return 0


async def _sync(store: KeyStores, arguments: argparse.Namespace) -> int:
    print(f"{await store.sync()} keys")
    return 0


_COMMANDS = {"create": _create, "list": _list, "revoke": _revoke, "sync": _sync}


def _state(key: ApiKey) -> str:
    if key.revoked_ms:
        return "revoked"
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return "expired" if key.is_expired(now_ms) else "valid"


def _row(key: ApiKey) -> tuple[str, ...]:
    return (
        *(key.key_id, key.tenant, ",".join(sorted(key.scopes)), _state(key)),
        *(_time(key.created_ms), _time(key.expires_ms), _time(key.used_ms), key.label),
    )


def _as_json(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "state": _state(key),
        "created": _time(key.created_ms),
        "expires": _time(key.expires_ms) if key.expires_ms else None,
        "last_used": _time(key.used_ms) if key.used_ms else None,
        "label": key.label,
    }


def _time(milliseconds: int) -> str:
    if not milliseconds:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _complain(message: str, status: int) -> int:
    print(f"miao keys: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="miao keys", description="API keys of callers.")
    commands = parser.add_subparsers(dest="command", required=True)

    create = _command(commands, "create", "make a key and print it, once")
    create.add_argument(
        "--pepper",
        default=os.environ.get("MIAO_API_KEY_PEPPER", ""),
        help="file of peppers, the same as the fronts' [MIAO_API_KEY_PEPPER]",
    )
    create.add_argument("--tenant", type=_tenant, required=True, help="whose key it is")
    create.add_argument(
        "--scopes",
        type=_scopes,
        default=ALL_SCOPES,
        help=f"some of {','.join(Scope)}; unset: all but operate",
    )
    create.add_argument("--expires", type=_duration, help="such as 90d, 12h, 30m; unset: never")
    create.add_argument("--label", type=_label, default="", help="for those who read the list")
    create.add_argument("--json", action="store_true", help="print JSON")

    _audit_option(create)

    listing = _command(commands, "list", "list keys, without their secrets")
    listing.add_argument("--tenant", type=_tenant, help="those of one tenant")
    listing.add_argument("--json", action="store_true", help="print JSON")

    revoke = _command(commands, "revoke", "end a key for good")
    revoke.add_argument("id", help="the key's id, or the key itself")
    _audit_option(revoke)

    _command(commands, "sync", "let each of several Redis know the keys of all")

    pepper = commands.add_parser("new-pepper", help="print a line for the file of peppers")
    pepper.add_argument("id", help="what to call it, such as p1")
    return parser


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text)
    parser.add_argument(
        "--redis-url",
        action=AddAddress,
        default=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        metavar="URL",
        help="where the keys are; several, NAME=URL each, in a list or by saying it again",
    )
    return parser


def _audit_option(parser: argparse.ArgumentParser) -> None:
    """What changes keys is in the audit, which is as long as fronts keep it."""
    parser.add_argument(
        "--audit-entries",
        type=int,
        default=os.environ.get("MIAO_AUDIT_ENTRIES", KEPT),
        help="how many audit records are kept; 0: none [MIAO_AUDIT_ENTRIES]",
    )


def _tenant(text: str) -> str:
    if not is_tenant(text):
        raise argparse.ArgumentTypeError(
            "is of letters, digits, '.', '_' and '-', at most 63, and begins with no sign"
        )
    return text


def _scopes(text: str) -> frozenset[Scope]:
    try:
        return frozenset(Scope(word.strip()) for word in text.split(","))
    except ValueError:
        known = ", ".join(Scope)
        raise argparse.ArgumentTypeError(f"must be some of {known}, with commas") from None


def _duration(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError("must be such as 90d, 12h, 30m or 45s")
    return float(int(found[1]) * _UNITS[found[2]])


def _label(text: str) -> str:
    if len(text) > _MOST_LABEL_CHARS or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be at most {_MOST_LABEL_CHARS} printable letters")
    return text
