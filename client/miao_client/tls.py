"""TLS: how a client knows that it talks to the service, and shows who it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from miao_client.errors import InvalidRequestError
from miao_client.profile import YES


@dataclass(frozen=True, slots=True)
class Tls:
    """Names of PEM files.

    They may be replaced while a client runs, as certificates that live for hours are: a
    client whose connection fails reads those that have changed, and connects with them.

    Attributes:
        roots: Those that sign the service's certificate; None for the public ones that
            come with gRPC.
        certificate: The client's own, for services that want one.
        key: The private key of `certificate`.
    """

    roots: str | None = None
    certificate: str | None = None
    key: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel.

        Raises:
            InvalidRequestError: A file cannot be read, or a certificate is without its key.
        """
        if (self.certificate is None) != (self.key is None):
            raise InvalidRequestError.of("tls", "needs certificate and key together")
        names = (self.roots, self.key, self.certificate)
        return grpc.ssl_channel_credentials(*map(_content, names))


def stamp_of(tls: Tls | None) -> object:
    """Tells files from those that replace them; None without any, or while one is missing."""
    if tls is None:
        return None
    names = [name for name in (tls.roots, tls.key, tls.certificate) if name is not None]
    try:
        stats = [Path(name).stat() for name in names]  # follows links, as secrets are mounted
    except OSError:
        return None
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def resolve(tls: Tls | bool | None, environ: Mapping[str, str]) -> Tls | None:
    """What the argument says, else MIAO_TLS and the names of files; None for plain connections."""
    if isinstance(tls, Tls) or tls is False:
        found = tls or None
    else:
        names = ("MIAO_TLS_ROOTS", "MIAO_CLIENT_CERTIFICATE", "MIAO_CLIENT_KEY")
        files = [environ.get(name) or None for name in names]
        is_asked_for = tls or environ.get("MIAO_TLS", "").lower() in YES or any(files)
        found = Tls(*files) if is_asked_for else None
    if found is not None:
        found.credentials()  # says now what is wrong
    return found


def _content(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InvalidRequestError.of("tls", f"names {name}: {error.strerror}") from None
