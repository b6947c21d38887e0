"""Where Redis is: one address, or several that share the work.

    redis://user:password@host:6379/0
    rediss://host:6380/0                              with TLS
    unix:///run/valkey.sock?db=0
    redis+sentinel://user:password@one:26379,two:26379,three:26379/main/0
                                                      whatever is the primary of "main" now,
                                                      and rediss+sentinel:// with TLS

Several are told apart by names, which decide where a generation lies; the addresses may change:

    a=redis://one:6379/0,b=redis://two:6379/0,c:draining=redis://three:6379/0

Each stands in a list with commas or white space between.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.connection import SSLConnection, parse_url

SCHEMES = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")

_SENTINEL_PORT = 26379
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
_SCHEME = r"(?:rediss?(?:\+sentinel)?|unix)://"
# A comma may also stand in a password, or between sentinels: here an address must follow it.
_BETWEEN = re.compile(rf"[\s,]+(?=(?:{_NAME}(?::[a-z]+)?=)?{_SCHEME})")
_ENTRY = re.compile(rf"(?:(?P<name>{_NAME})(?::(?P<state>[a-z]+))?=)?(?P<url>.+)", re.DOTALL)
_SECRET = re.compile(r"\b((?:sentinel_)?(?:username|password)=)[^&]*")


class RedisUrlError(ValueError):
    """The address of Redis is not one that we can use; never says its password."""


class ShardState(StrEnum):
    """What part a Redis takes among several. All of them are followed and looked at."""

    SETTLED = "settled"  # admits
    JOINING = "joining"  # admits nothing yet: not all fronts and workers know it
    NEW = "new"  # admits; what came before it may lie where it would have without this one
    DRAINING = "draining"  # admits no more


_ADMITTING = (ShardState.SETTLED, ShardState.NEW)


@dataclass(frozen=True, slots=True)
class Shard:
    """One Redis of several, or the only one."""

    name: str
    url: str
    state: ShardState = ShardState.SETTLED

    @property
    def admits(self) -> bool:
        return self.state in _ADMITTING


@dataclass(frozen=True, slots=True)
class ShardMap:
    """All Redis of a fleet, and which of them has what.

    By rendezvous hashing (Thaler and Ravishankar, 1998): each key ranks the shards by a
    hash of both, and lies on the first that admits. So a shard that comes takes
    only what then lies on it, and what a shard had that goes is spread over all others.
    """

    shards: Sequence[Shard]

    @classmethod
    def parse(cls, text: str) -> ShardMap:
        """Read a list; RedisUrlError says what is wrong."""
        entries = [entry for entry in _BETWEEN.split(text.strip().strip(",")) if entry]
        if not entries:
            raise RedisUrlError("the address of Redis is empty")
        shards = [_shard(entry) for entry in entries]
        names = [shard.name for shard in shards]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RedisUrlError(f"two Redis have the name {twice!r}: give each a name of its own")
        if not any(shard.admits for shard in shards):
            raise RedisUrlError("no Redis of these admits anything")
        return cls(tuple(shards))

    @property
    def is_one(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.shards) == 1

    def ranking(self, key: str) -> list[Shard]:
        """All shards, in the order in which they would have the key."""
        return sorted(self.shards, key=lambda shard: _weight(shard.name, key), reverse=True)

    def candidates(self, key: str) -> list[Shard]:
        """Where the key may lie, its own place first.

        Whatever has come or goes meanwhile: its place was never behind the first settled
        shard of the ranking. One alone, where nothing changes.
        """
        if self.is_one:
            return list(self.shards)
        known: list[Shard] = []
        for shard in self.ranking(key):
            known.append(shard)
            if shard.state is ShardState.SETTLED:
                break
        place = next((shard for shard in known if shard.admits), None)
        if place is None:  # none is settled: what admits may lie anywhere behind
            return sorted(self.ranking(key), key=lambda shard: not shard.admits)
        return [place, *(shard for shard in known if shard is not place)]


class AddAddress(argparse.Action):
    """An option for a list of addresses, of which each use adds some in place of the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        seen = f"_seen_{self.dest}"
        before = getattr(namespace, seen, "")
        text = f"{before},{values}" if before else values
        setattr(namespace, seen, text)
        setattr(namespace, self.dest, text)


def redact_url(url: str) -> str:
    """An address without user and password, for logs."""
    scheme, _, rest = url.partition("://")
    shown = _SECRET.sub(r"\1", rest.rpartition("@")[2])
    return f"{scheme}://{shown}"


def check_url(url: str) -> None:
    """Raise RedisUrlError for an address that is none, or for a list with one."""
    ShardMap.parse(url)


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Who to ask for a primary, its name there, and how to connect to what they say."""

    sentinels: Sequence[tuple[str, int]]
    service: str
    options: dict[str, Any]  # of connections to Redis
    sentinel_options: dict[str, Any]

    @classmethod
    def parse(cls, url: str) -> SentinelAddress | None:
        """None for the address of a Redis itself."""
        parts = urlsplit(url)
        scheme, separator, _ = parts.scheme.partition("+sentinel")
        if not separator:
            return None
        login, at, hosts = parts.netloc.rpartition("@")
        service, _, database = parts.path.strip("/").partition("/")
        sentinels = tuple(_host(each) for each in hosts.split(",") if each)
        if not service or not sentinels:
            raise RedisUrlError(
                "the address of sentinels must be redis+sentinel://HOST:PORT,HOST:PORT/NAME/0 "
                "with the NAME under which they watch the primary"
            )
        query = dict(parse_qsl(parts.query))
        own = {k[9:]: v for k, v in query.items() if k in _OF_SENTINELS}
        rest = urlencode({k: v for k, v in query.items() if k not in _OF_SENTINELS})
        # What an address may say beside, redis-py reads.
        plain = f"{scheme}://{login}{at}127.0.0.1/{database or 0}?{rest}"
        options: dict[str, Any] = dict(parse_url(plain))  # type: ignore[no-untyped-call]
        del options["host"]
        encryption = {k: v for k, v in options.items() if k.startswith("ssl_")}
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = encryption["ssl"] = True
        return cls(sentinels, unquote(service), options, own | encryption)


_OF_SENTINELS = ("sentinel_username", "sentinel_password")


def _host(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or text.endswith("]"):
        return text.strip("[]"), _SENTINEL_PORT
    if not port.isdigit():
        raise RedisUrlError(f"a sentinel must be HOST:PORT, not {text!r}")
    return host.strip("[]"), int(port)


def _shard(entry: str) -> Shard:
    found = _ENTRY.fullmatch(entry)
    url = "" if found is None else found["url"]
    if found is None or not url.startswith(SCHEMES):
        raise RedisUrlError(f"the address of Redis must start with one of {', '.join(SCHEMES)}")
    SentinelAddress.parse(url)
    state = found["state"] or ShardState.SETTLED.value
    if state not in list(ShardState):
        raise RedisUrlError(f"a Redis can be {', '.join(ShardState)}, not {state!r}")
    name = found["name"] or redact_url(url).partition("://")[2]
    return Shard(name, url, ShardState(state))


def _weight(name: str, key: str) -> bytes:
    return blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()
