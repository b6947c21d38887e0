"""Who may do what in Redis: ACL users with the least rights that each kind of process needs.

`python -m miao_queue.access` prints deploy/redis/users.acl. Redis looks at these rules within
scripts too, command by command and key by key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from miao_queue import keys

_CONNECTING = ("auth", "hello", "ping", "select", "client|setname", "client|setinfo", "client|id")
_SCRIPTS = ("eval", "evalsha", "script|load", "script|exists")  # a pipeline asks first

# What the scripts call that admit, cancel and forget, and RQ's commands for a new job.
_QUEUEING = (
    *("hset", "hsetnx", "hdel", "hexists", "hget", "hmget", "hgetall", "hincrby", "hkeys", "hlen"),
    *("zadd", "zrem", "zscore", "zcount", "zcard", "zrange", "zrangebyscore", "zrevrange"),
    *("zrevrank", "zrevrangebyscore", "zremrangebyscore", "zincrby", "zmscore"),
    *("sadd", "srem", "smembers", "sismember", "llen", "lrange", "lpush", "rpush", "lpop", "lrem"),
    *("lindex", "lpos", "xadd", "xrange", "xrevrange", "xread", "xlen", "exists", "del", "expire"),
    *("pexpire", "expireat", "persist", "pttl", "ttl", "time", "set", "get"),
)

# What RQ's worker does besides: its registries, results, heartbeats and commands.
_WORKING = (
    *("info", "multi", "exec", "watch", "unwatch", "setex", "setnx", "incr", "incrby", "scard"),
    *("hincrbyfloat", "hmset", "hsetnx", "zpopmin", "xdel", "xtrim", "subscribe", "unsubscribe"),
    *("psubscribe", "publish", "type", "client|list", "client|info"),
)

_EVERYBODYS = (
    *(keys.generation("*"), keys.journal("*"), keys.LEASES, keys.WAITING, keys.tenant("*")),
    *(keys.model("*"), keys.MODELS, keys.workers("*"), keys.bell("*"), keys.control("*")),
    *(keys.line("*", "*"), keys.turns("*"), keys.served("*"), keys.load("*"), keys.pace("*")),
    *(keys.open_generations("*", "*"), keys.spent("*", "*"), "miao:holders:*", "miao:none"),
    *(keys.USAGE_TENANTS, keys.usage("*"), "miao:usage_day:*", keys.worker("*"), keys.FLEET),
)


@dataclass(frozen=True, slots=True)
class User:
    """A user of Redis. Patterns and commands as Redis's ACL names them."""

    name: str
    purpose: str
    commands: tuple[str, ...]
    patterns: tuple[str, ...]
    channels: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()  # patterns of what it may read alone
    writes: tuple[str, ...] = ()  # patterns of what it may write and not read

    def line(self) -> str:
        """The user's line in a file of ACLs, which has to be given its password."""
        rules = [
            *("user", self.name, "on", f"#{self.name.upper()}_SHA256", "resetkeys"),
            *(f"~{pattern}" for pattern in self.patterns),
            *(f"%R~{pattern}" for pattern in self.reads),
            *(f"%W~{pattern}" for pattern in self.writes),
            "resetchannels",
            *(f"&{channel}" for channel in self.channels),
            "-@all",
            *(f"+{command}" for command in dict.fromkeys(self.commands)),
        ]
        return " ".join(rules)


USERS = (
    User(
        "miao-front",
        "fronts; they read API keys and note their use, and write the audit",
        (*_CONNECTING, *_SCRIPTS, *_QUEUEING, "wait", "waitaof", "mget", "xtrim"),
        (*_EVERYBODYS, keys.front("*"), keys.api_key("*"), keys.AUDIT, "rq:*"),
    ),
    User(
        "miao-worker",
        "workers; they see no API keys",
        (*_CONNECTING, *_SCRIPTS, *_QUEUEING, *_WORKING),
        (*_EVERYBODYS, "miao:reaper", "rq:*"),
        ("rq:*",),
    ),
    User(
        "miao-keys",
        "`miao keys`; it sees nothing but API keys, and writes what it does into the audit",
        (
            *(*_CONNECTING, *_SCRIPTS, "multi", "exec", "hset", "hsetnx", "hget", "hgetall"),
            *("exists", "sadd", "srem", "smembers", "pttl", "pexpire", "pexpireat", "xadd"),
        ),
        (keys.API_KEYS, keys.api_key("*")),
        writes=(keys.AUDIT,),
    ),
    User(
        "miao-operator",
        "`rq info`, `rq suspend` and `rq resume`; it sees jobs by their ids, and nothing in them",
        (
            *(*_CONNECTING, "multi", "exec", "info", "exists", "expire", "type", "get", "set"),
            *("del", "ttl", "hget", "hmget", "hgetall", "hset", "llen", "lrange", "scard"),
            *("smembers", "srem", "zcard", "zcount", "zrange", "zrangebyscore", "zrem"),
            *("zremrangebyscore", "zscore"),
        ),
        # `rq info` tidies RQ's registries before it shows them.
        (
            *("rq:suspended", "rq:workers", "rq:workers:*", "rq:finished:*", "rq:wip:*"),
            *("rq:failed:*", "rq:deferred:*", "rq:ready:*"),
        ),
        reads=("rq:*",),
    ),
    User(
        "miao-scaler",
        "autoscalers; they count what waits and what runs, in one script that only reads",
        (*_CONNECTING, *_SCRIPTS, "type", "llen", "zcard"),
        ("rq:queue:*", "rq:wip:*"),
    ),
)


def file_text(users: Iterable[User] = USERS) -> str:
    """The file of ACLs; Redis allows no comments in it. The user of old is off."""
    lines = ["user default off nopass sanitize-payload ~* &* +@all", *(u.line() for u in users)]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    print(file_text(), end="")
