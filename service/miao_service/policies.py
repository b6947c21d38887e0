"""What each tenant may ask of each model, from a file that is read again when it changes.

    [default]                            # every tenant
    requests_per_minute = 600
    [default.models.large]               # every tenant, of one model
    concurrent_generations = 4
    [tenants.acme]                       # one tenant
    tokens_per_minute = 100000
    [tenants.acme.models.large]          # one tenant, of one model
    weight = 4

The more special wins, key by key. docs/limits.md says what the keys mean.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miao_queue import keys
from miao_queue.limits import UNLIMITED, Limits
from miao_service.auth.identity import is_tenant

logger = logging.getLogger(__name__)

_COUNTED = {"requests_per_minute", "tokens_per_minute", "concurrent_generations", "backlog"}
_MOST = 2**53 - 1  # what Redis's numbers hold exactly
_LEAST_WEIGHT, _MOST_WEIGHT = 0.001, 1000.0


class PoliciesError(ValueError):
    """A policy cannot be understood: names the key and what it may be."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is said of one tenant, or of all: in general, and of single models."""

    values: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, model: str) -> dict[str, Any]:
        return {**self.values, **self.models.get(model, {})}

    @property
    def counts(self) -> bool:
        """Whether something is counted, of whatever model."""
        return any(not _COUNTED.isdisjoint(each) for each in (self.values, *self.models.values()))


@dataclass(frozen=True, slots=True)
class Policies:
    """The limits of every tenant and model."""

    default: _Scope = field(default_factory=_Scope)
    tenants: Mapping[str, _Scope] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Policies:
        """Read TOML; PoliciesError says what is wrong, and where."""
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PoliciesError(f"is no TOML: {error}") from None
        _check_keys(document, "", {"default", "tenants"})
        tenants = _table(document.get("tenants", {}), "tenants")
        for name in tenants:
            if not is_tenant(name):
                raise PoliciesError(f"tenants.{name} is no name of a tenant")
        return cls(
            _scope(document.get("default", {}), "default"),
            {name: _scope(value, f"tenants.{name}") for name, value in tenants.items()},
        )

    def limits(self, tenant: str, model: str) -> Limits:
        """What the tenant may ask of the model."""
        own = self.tenants.get(tenant)
        values = self.default.of(model) | (own.of(model) if own is not None else {})
        return Limits(**values) if values else UNLIMITED

    def counts(self, tenant: str) -> bool:
        """Whether a tenant has a limit of any model for which its generations are counted."""
        own = self.tenants.get(tenant)
        return self.default.counts or (own is not None and own.counts)


class PolicyFile:
    """The policies that hold now. Without a file nothing is limited."""

    def __init__(self, path: str) -> None:
        """Raises PoliciesError where the file cannot be read or understood."""
        self._path = Path(path) if path else None
        self._seen: object = None
        self.policies = Policies()
        if self._path is not None:
            self._seen = self._state()
            self.policies = self._read()

    @property
    def is_set(self) -> bool:
        """Whether there is a file."""
        return self._path is not None

    def look(self) -> None:
        """Read the file again if it has changed; one that is wrong changes nothing."""
        if self._path is None or (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            self.policies = self._read()
        except PoliciesError as error:
            logger.error("the limits stay as they were: %s", error)
        else:
            logger.info("the limits were read again")

    def _state(self) -> object:
        """Changes when the file does, or another takes its place."""
        assert self._path is not None
        try:
            status = self._path.stat()
        except OSError as error:
            return str(error)
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> Policies:
        assert self._path is not None
        try:
            return Policies.parse(self._path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PoliciesError(f"{self._path} cannot be read: {type(error).__name__}") from None
        except PoliciesError as error:
            raise PoliciesError(f"{self._path}: {error}") from None


def _scope(value: object, path: str) -> _Scope:
    table = dict(_table(value, path))
    models = _table(table.pop("models", {}), f"{path}.models")
    return _Scope(
        _values(table, path),
        {
            name: _values(_table(entry, f"{path}.models.{name}"), f"{path}.models.{name}")
            for name, entry in models.items()
        },
    )


def _values(table: Mapping[str, object], path: str) -> dict[str, Any]:
    _check_keys(table, path, set(_READERS))
    return {key: _READERS[key](value, f"{path}.{key}") for key, value in table.items()}


def _check_keys(table: Mapping[str, object], path: str, known: set[str]) -> None:
    for key in table:
        if key not in known:
            name = f"{path}.{key}" if path else key
            raise PoliciesError(f"{name} is not known; there are {', '.join(sorted(known))}")


def _table(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PoliciesError(f"{path} must be a table, not {value!r}")
    return value


def _count(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST:
        raise PoliciesError(f"{path} must be a whole number between 1 and {_MOST}, not {value!r}")
    return value


def _weight(value: object, path: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not _LEAST_WEIGHT <= value <= _MOST_WEIGHT:  # type: ignore[operator]
        raise PoliciesError(
            f"{path} must be a number between {_LEAST_WEIGHT:g} and {_MOST_WEIGHT:g}, not {value!r}"
        )
    return float(value)  # type: ignore[arg-type]


def _truth(value: object, path: str) -> bool:
    if not isinstance(value, bool):
        raise PoliciesError(f"{path} must be true or false, not {value!r}")
    return value


def _priorities(value: object, path: str) -> tuple[str, ...]:
    known = ", ".join(keys.PRIORITIES)
    if not isinstance(value, list) or not value or not set(map(str, value)) <= set(keys.PRIORITIES):
        raise PoliciesError(f"{path} must be a list of some of {known}, not {value!r}")
    return tuple(value)


_READERS: Mapping[str, Callable[[object, str], Any]] = {
    "requests_per_minute": _count,
    "tokens_per_minute": _count,
    "concurrent_generations": _count,
    "backlog": _count,
    "request_tokens": _count,
    "priorities": _priorities,
    "weight": _weight,
    "share_prefix_cache": _truth,
}
