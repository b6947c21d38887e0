"""A user's settings file: what no argument and no environment variable says.

TOML at `~/.config/miao/config.toml` (XDG_CONFIG_HOME in place of `~/.config`), or where
MIAO_PROFILE says; an empty MIAO_PROFILE reads none. Its keys are the environment
variables' names in small letters and without MIAO_:

    target = "dns:///miao:50051"
    model = "Qwen/Qwen2.5-0.5B-Instruct"
    reconnect_timeout = 60
"""

from __future__ import annotations

import tomllib
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

from miao_client.errors import InvalidRequestError

KEYS = frozenset(
    {
        "api_key",
        "call_timeout",
        "client_certificate",
        "client_key",
        "connect_timeout",
        "health_check",
        "model",
        "reconnect_timeout",
        "retry_budget",
        "retry_ratio",
        "target",
        "timeout",
        "tls",
        "tls_roots",
        "traces",
        "wait_when_busy",
    }
)
YES = frozenset({"1", "true", "yes", "on"})  # as variables say it


def with_profile(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment, and behind it what the file says.

    Raises:
        InvalidRequestError: The file cannot be read, or has a key that is none.
    """
    named = environ.get("MIAO_PROFILE")
    path = Path(named).expanduser() if named else _default_path(environ)
    if named == "" or path is None or not (named or path.is_file()):
        return environ
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not TOML"
        raise InvalidRequestError.of("MIAO_PROFILE", f"{path} cannot be read: {reason}") from None
    return ChainMap(
        dict(environ), {f"MIAO_{key.upper()}": _text(key, values[key]) for key in values}
    )


def _default_path(environ: Mapping[str, str]) -> Path | None:
    folder = environ.get("XDG_CONFIG_HOME")
    if not folder:
        home = environ.get("HOME") or environ.get("USERPROFILE")
        if not home:
            return None
        folder = f"{home}/.config"
    return Path(folder) / "miao" / "config.toml"


def _text(key: str, value: object) -> str:
    if key not in KEYS:
        raise InvalidRequestError.of(f"profile.{key}", f"is not one of {', '.join(sorted(KEYS))}")
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ",".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise InvalidRequestError.of(f"profile.{key}", "must be a text, a number or true or false")
    return str(value)
