"""The gateway's settings, read once from arguments and environment."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from miao_client.gateway.app import DEFAULT_MOST_BODY_BYTES

DEFAULT_LISTEN = "127.0.0.1:8080"
_YES = frozenset({"1", "true", "yes", "on"})


class SettingsError(ValueError):
    """A setting has a value that it cannot have."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the gateway listens, and which service it is a door to."""

    host: str
    port: int
    target: str | None  # None: as the SDK finds it
    lenient: bool
    most_body_bytes: int
    drain_seconds: int
    tls_certificate: str | None = None
    tls_key: str | None = None

    @classmethod
    def read(cls, argv: Sequence[str], environ: Mapping[str, str]) -> GatewaySettings:
        """Read them.

        Raises:
            SettingsError: One has no sense.
            SystemExit: The arguments cannot be read, or ask for help.
        """
        given = _parser(environ).parse_args(argv)
        host, port = _address(given.listen)
        if bool(given.tls_certificate) != bool(given.tls_key):
            raise SettingsError("--tls-certificate and --tls-key need each other")
        if not (given.tls_certificate or given.allow_plaintext or _is_loopback(host)):
            raise SettingsError(
                f"{host} is not this machine alone, and keys would travel in plain text: give "
                "--tls-certificate and --tls-key, or say --allow-plaintext behind a proxy with TLS"
            )
        return cls(
            host,
            port,
            given.target,
            given.lenient,
            given.most_body_bytes,
            given.drain_seconds,
            given.tls_certificate,
            given.tls_key,
        )


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="miao gateway",
        description="Answer OpenAI's HTTP API out of a Miao service (docs/gateway.md).",
    )
    option = parser.add_argument
    option(
        "--listen",
        default=environ.get("MIAO_GATEWAY_LISTEN") or DEFAULT_LISTEN,
        help="host and port; port 0 takes a free one (%(default)s, MIAO_GATEWAY_LISTEN)",
    )
    option("--target", help="the service, several with commas (MIAO_TARGET)")
    option(
        "--lenient",
        action="store_true",
        default=(environ.get("MIAO_GATEWAY_LENIENT") or "").lower() in _YES,
        help="leave out fields that cannot be honoured, and name them in a header, instead of "
        "refusing the request (MIAO_GATEWAY_LENIENT)",
    )
    option(
        "--most-body-bytes",
        type=_positive,
        default=DEFAULT_MOST_BODY_BYTES,
        help="refuse larger requests (%(default)s)",
    )
    option(
        "--drain-seconds",
        type=_positive,
        default=20,
        help="how long open requests may go on after SIGTERM (%(default)s)",
    )
    option("--tls-certificate", metavar="FILE", help="speak HTTPS with this certificate chain")
    option("--tls-key", metavar="FILE", help="and this key")
    option(
        "--allow-plaintext",
        action="store_true",
        help="speak HTTP beyond this machine, as behind a proxy that speaks HTTPS",
    )
    return parser


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _address(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--listen must be a host and a port, not {listen!r}")
    return host.strip("[]") or "127.0.0.1", int(port)
