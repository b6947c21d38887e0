"""The Lua scripts as Python callables."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.commands.core import AsyncScript, Script


@cache
def source(name: str) -> str:
    """A script's text, with the functions that all share in front."""
    folder = resources.files("miao_queue") / "lua"
    return "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("prelude", name))


def load(connection: Redis, name: str) -> Script:
    """A script that runs by its hash, and sends its text where Redis has forgotten it."""
    return connection.register_script(source(name))


def load_async(connection: AsyncRedis, name: str) -> AsyncScript:
    """As `load`, for an asynchronous connection."""
    script: Any = connection.register_script(source(name))
    return script  # type: ignore[no-any-return]
