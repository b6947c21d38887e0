"""What programs of another version had left in their Redis, so that this one's find it there."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from redis import Redis

_SECONDS, _MILLISECONDS = range(10**9, 10**11), range(10**12, 10**14)  # since 1970


@dataclass(frozen=True, slots=True)
class Recording:
    """A Redis at one moment. Bytes are strings of latin-1.

    at_ms: the moment, by its clock.
    keys: name, type, value and milliseconds to live, of each.
    said: the tokens of each kind of generation, undisturbed.
    states: each generation's, by its id.
    """

    at_ms: int
    keys: list[Any]
    said: Mapping[str, list[int]]
    states: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> Recording:
        return cls(**json.loads(gzip.decompress(path.read_bytes())))

    def write(self, path: Path) -> None:
        text = json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))
        path.write_bytes(gzip.compress(text.encode(), mtime=0))

    def summary(self) -> str:
        kinds = Counter(":".join(name.split(":")[:2]) for name, *_ in self.keys)
        return f"{dict(Counter(self.states.values()))}; keys: {dict(kinds)}"


def snapshot(redis: Any, said: Mapping[str, list[int]], states: Mapping[str, str]) -> Recording:
    """All that is in a Redis whose programs are dead or silent."""
    keys = []
    for key in sorted(redis.scan_iter(count=1000)):
        kind = redis.type(key).decode()
        if kind == "none":
            continue  # it was over just now
        keys.append([_text(key), kind, _value(redis, key, kind), redis.pttl(key)])
    return Recording(_now_ms(redis), keys, said, states)


def restore(redis: Any, recording: Recording) -> None:
    """Put all of it into an empty Redis, as if its programs had died just now."""
    later_ms = _now_ms(redis) - recording.at_ms
    with redis.pipeline() as pipeline:
        for name, kind, value, ttl_ms in recording.keys:
            key = _bytes(name)
            _put(pipeline, key, kind, value, later_ms)
            if ttl_ms > 0:
                pipeline.pexpire(key, ttl_ms)
        pipeline.execute()


def _put(pipeline: Any, key: bytes, kind: str, value: Any, later_ms: int) -> None:
    match kind:
        case "string":
            pipeline.set(key, _bytes(value))
        case "hash":
            for name, each in value.items():
                is_time = name.endswith("_ms") and int(each) in _MILLISECONDS
                moved = str(int(each) + later_ms) if is_time else each
                pipeline.hset(key, _bytes(name), _bytes(moved))
        case "list":
            pipeline.rpush(key, *map(_bytes, value))
        case "set":
            pipeline.sadd(key, *map(_bytes, value))
        case "zset":
            moved = {_bytes(each): _moved(score, later_ms) for each, score in value}
            pipeline.zadd(key, moved)
        case "stream":
            for entry, fields in value:
                pipeline.xadd(key, {_bytes(k): _bytes(v) for k, v in fields.items()}, id=entry)


def _moved(score: float, later_ms: int) -> float:
    if int(score) in _MILLISECONDS:
        return score + later_ms
    return score + later_ms / 1000 if int(score) in _SECONDS else score


def _value(redis: Any, key: bytes, kind: str) -> Any:
    match kind:
        case "string":
            return _text(redis.get(key))
        case "hash":
            return {_text(k): _text(v) for k, v in redis.hgetall(key).items()}
        case "list":
            return [_text(each) for each in redis.lrange(key, 0, -1)]
        case "set":
            return sorted(_text(each) for each in redis.smembers(key))
        case "zset":
            return [[_text(k), score] for k, score in redis.zrange(key, 0, -1, withscores=True)]
        case "stream":
            return [
                [_text(i), {_text(k): _text(v) for k, v in fields.items()}]
                for i, fields in redis.xrange(key)
            ]
    raise AssertionError(f"nobody writes a {kind}")


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


def _now_ms(redis: Redis) -> int:
    seconds, micros = redis.time()
    return int(seconds) * 1000 + int(micros) // 1000
