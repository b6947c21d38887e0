"""TLS of the front's port, with certificates that are read again when their files change."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

logger = logging.getLogger(__name__)


class TlsError(ValueError):
    """The files do not make an identity that can be shown; never quotes them."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. With client_roots callers must show a certificate that these have signed."""

    certificate: str
    key: str
    client_roots: str = ""

    @property
    def paths(self) -> list[Path]:
        return [Path(name) for name in (self.certificate, self.key, self.client_roots) if name]


@dataclass(frozen=True, slots=True)
class _Material:
    certificate: bytes
    key: bytes
    client_roots: bytes | None


class ServerTls:
    """The credentials of a port.

    gRPC asks at each handshake, on threads of its own. The files are looked at each
    time, and read when they have changed. While they do not fit together, as in the
    middle of being replaced, the last ones that did stay in use. Connections that are
    open stay as they are.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Read the files; TlsError if they cannot be used."""
        self._files = files
        self._stamp = _stamp(files)
        self._material = _read(files)

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`."""
        changed: Any = self._changed  # may return None, for no change, whatever grpc's stubs say
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._material),
            changed,
            require_client_authentication=bool(self._files.client_roots),
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration, if there is one."""
        try:
            stamp = _stamp(self._files)
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            material = _read(self._files)
        except TlsError as error:
            logger.error("the TLS files have changed and cannot be used: %s", error)
            return None
        if material == self._material:
            return None
        self._material = material
        expiry = x509.load_pem_x509_certificate(material.certificate).not_valid_after_utc
        logger.info("the TLS certificate was read again; it is valid until %s", expiry)
        return _configuration(material)


def _stamp(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    try:
        stats = [path.stat() for path in files.paths]
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from None
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def _read(files: TlsFiles) -> _Material:
    try:
        contents = [path.read_bytes() for path in files.paths]
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}") from None
    certificate, key, *roots = contents
    try:
        shown = x509.load_pem_x509_certificates(certificate)[0].public_key()
    except ValueError:
        raise TlsError(f"{files.certificate} holds no certificate in PEM") from None
    try:
        held = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError):
        raise TlsError(f"{files.key} holds no private key in PEM without a password") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if shown.public_bytes(*form) != held.public_bytes(*form):
        raise TlsError(f"the key in {files.key} is not that of {files.certificate}")
    for root in roots:
        try:
            x509.load_pem_x509_certificates(root)
        except ValueError:
            raise TlsError(f"{files.client_roots} holds no certificates in PEM") from None
    return _Material(certificate, key, roots[0] if roots else None)


def _configuration(material: _Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_roots
    )
