"""A client's settings: arguments come first, then the environment, the profile, the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from miao_client.callers import AsyncApiKey, Metadata
from miao_client.errors import InvalidRequestError
from miao_client.options import GenerateOptions, check_timeout
from miao_client.profile import YES, with_profile
from miao_client.retry_budget import DEFAULT_RATIO, DEFAULT_RETRIES
from miao_client.tls import Tls
from miao_client.tls import resolve as resolve_tls
from miao_client.traces import NO_TRACES, TracerProvider, Traces
from miao_client.traces import resolve as resolve_traces

DEFAULT_TARGET = "localhost:50051"


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once, when a client is made. All times are in seconds."""

    targets: tuple[str, ...] = (DEFAULT_TARGET,)
    model: str | None = None
    timeout: float | None = None
    call_timeout: float = 30.0
    connect_timeout: float = 5.0
    reconnect_timeout: float = 30.0
    wait_when_busy: float = 0.0
    retry_budget: float = DEFAULT_RETRIES
    retry_ratio: float = DEFAULT_RATIO
    health_check: bool = True
    api_key: AsyncApiKey | None = field(default=None, repr=False)
    metadata: tuple[tuple[str, str | bytes], ...] = field(default=(), repr=False)
    tls: Tls | None = None
    interceptors: tuple[Any, ...] = ()
    traces: Traces = field(default=NO_TRACES, repr=False)

    @classmethod
    def resolve(
        cls,
        target: str | Sequence[str] | None,
        model: str | None,
        timeout: float | None,
        call_timeout: float | None,
        connect_timeout: float | None,
        reconnect_timeout: float | None,
        wait_when_busy: float | None,
        retry_budget: float | None = None,
        retry_ratio: float | None = None,
        health_check: bool | None = None,
        api_key: AsyncApiKey | None = None,
        metadata: Metadata = (),
        tls: Tls | bool | None = None,
        interceptors: tuple[Any, ...] = (),
        traces: TracerProvider | bool | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Settings:
        """Fill what no argument says from the environment, then from the profile.

        Raises:
            InvalidRequestError: A setting has no sense.
        """
        environ = with_profile(environ)
        if target is None:
            target = environ.get("MIAO_TARGET") or DEFAULT_TARGET
        if model is None:
            model = environ.get("MIAO_MODEL") or None
        if timeout is None:
            timeout = _number(environ, "MIAO_TIMEOUT")
        call_timeout = _or(call_timeout, environ, "MIAO_CALL_TIMEOUT", 30.0)
        connect_timeout = _or(connect_timeout, environ, "MIAO_CONNECT_TIMEOUT", 5.0)
        reconnect_timeout = _or(reconnect_timeout, environ, "MIAO_RECONNECT_TIMEOUT", 30.0)
        wait_when_busy = _or(wait_when_busy, environ, "MIAO_WAIT_WHEN_BUSY", 0.0)
        retry_budget = _or(retry_budget, environ, "MIAO_RETRY_BUDGET", DEFAULT_RETRIES)
        retry_ratio = _or(retry_ratio, environ, "MIAO_RETRY_RATIO", DEFAULT_RATIO)
        if health_check is None:
            health_check = environ.get("MIAO_HEALTH_CHECK", "true").lower() in YES
        if api_key is None:
            api_key = environ.get("MIAO_API_KEY")
        check_timeout(timeout, "timeout")
        check_timeout(call_timeout, "call_timeout")
        _check_not_negative(
            connect_timeout=connect_timeout,
            reconnect_timeout=reconnect_timeout,
            wait_when_busy=wait_when_busy,
            retry_budget=retry_budget,
            retry_ratio=retry_ratio,
        )
        return cls(
            targets=_targets(target),
            model=model,
            timeout=timeout,
            call_timeout=call_timeout,
            connect_timeout=connect_timeout,
            reconnect_timeout=reconnect_timeout,
            wait_when_busy=wait_when_busy,
            retry_budget=retry_budget,
            retry_ratio=retry_ratio,
            health_check=health_check,
            api_key=api_key or None,  # an empty one is none, whatever the environment says
            metadata=tuple(metadata),
            tls=resolve_tls(tls, environ),
            interceptors=interceptors,
            traces=resolve_traces(traces, environ),
        )

    def changed(
        self,
        api_key: AsyncApiKey | None,
        metadata: Metadata | None,
        model: str | None,
        timeout: float | None,
    ) -> Settings:
        """These settings, with those that are not None in their places.

        Raises:
            InvalidRequestError: A setting has no sense.
        """
        check_timeout(timeout, "timeout")
        return replace(
            self,
            api_key=self.api_key if api_key is None else api_key,
            metadata=self.metadata if metadata is None else tuple(metadata),
            model=self.model_or(model),
            timeout=self.timeout if timeout is None else timeout,
        )

    def model_or(self, name: str | None) -> str | None:
        """The model that is named, else the client's."""
        return self.model if name is None else name

    def call_timeout_or(self, timeout: float | None) -> float:
        """Seconds for the answer of an encoder: as the call says, else the client."""
        asked = self.timeout if timeout is None else timeout
        return self.call_timeout if asked is None else asked

    def applied_to(self, options: GenerateOptions) -> GenerateOptions:
        """A call's options, with the client's where the call says nothing."""
        merged = options.copy()
        merged["model"] = self.model_or(merged.get("model"))
        if merged.get("timeout") is None:
            merged["timeout"] = self.timeout
        return merged


def _targets(target: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(target, str):
        # gRPC's own lists of addresses hold commas too.
        single = target.startswith(("ipv4:", "ipv6:"))
        target = [target] if single else target.split(",")
    targets = tuple(name.strip() for name in target if name.strip())
    if not targets:
        raise InvalidRequestError.of(
            "target", "must name at least one address, such as localhost:50051"
        )
    return targets


def _check_not_negative(**settings: float) -> None:
    for name, value in settings.items():
        if not value >= 0:  # NaN too
            raise InvalidRequestError.of(name, "must be a number, at least 0")


def _or(given: float | None, environ: Mapping[str, str], name: str, default: float) -> float:
    if given is None:
        given = _number(environ, name)
    return default if given is None else given


def _number(environ: Mapping[str, str], name: str) -> float | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidRequestError.of(name, "must be a number") from None
