"""What a front's settings say of safety.

Its TLS, by what callers are known, what is too open, and what guards Redis's content.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable

from miao_queue.key_ring import KeyRing, KeyRingError
from miao_queue.protection import Protection
from miao_service.auth.api_key_verifier import ApiKeyVerifier, KeySource
from miao_service.auth.authenticator import Authenticator, Verifier
from miao_service.auth.certificates import CertificateVerifier, SpiffeMap, SpiffeMapError
from miao_service.auth.jwt_verifier import ALGORITHMS, JwtRules, JwtVerifier
from miao_service.auth.key_sets import KeySetError, KeySetSource
from miao_service.auth.tls import ServerTls, TlsError, TlsFiles
from miao_service.settings import ServiceSettings, SettingsError, parse_address

logger = logging.getLogger(__name__)


class Access:
    """Reads what the settings name. SettingsError for what cannot be used, or is too open."""

    def __init__(self, settings: ServiceSettings) -> None:
        _check_together(settings)
        self._settings = settings
        self._closers: list[Callable[[], Awaitable[None]]] = []
        try:
            self.tls = _tls(settings)
            self._peppers = KeyRing.read(path) if (path := settings.api_key_pepper) else None
            self._spiffe_map = SpiffeMap.read(path) if (path := settings.spiffe_tenants) else None
            self._key_sets = KeySetSource(place) if (place := settings.jwt_keys) else None
            self.protection = Protection.read(
                settings.encryption_keys, settings.encryption, settings.signing_keys
            )
        except (TlsError, KeyRingError, SpiffeMapError, KeySetError) as error:
            raise SettingsError(str(error)) from None
        self._jwt_rules = _jwt_rules(settings) if self._key_sets else None
        _check_exposure(settings)

    def authenticator(self, keys: Callable[[KeyRing], KeySource]) -> Authenticator:
        """Knows callers by all that is set; `keys`: where API keys are looked up."""
        verifiers: list[Verifier] = []
        if self._peppers is not None:
            store = keys(self._peppers)
            by_key = ApiKeyVerifier(store, self._peppers, self._settings.api_key_cache_seconds)
            verifiers.append(by_key)
            self._closers.append(by_key.close)
        if self._key_sets is not None and self._jwt_rules is not None:
            verifiers.append(JwtVerifier(self._key_sets, self._jwt_rules))
            self._closers.append(self._key_sets.close)
        if self._settings.tls_client_roots:
            verifiers.append(CertificateVerifier(self._spiffe_map, bool(verifiers)))
        self._warn(bool(verifiers))
        return Authenticator(verifiers)

    def _warn(self, knows_callers: bool) -> None:
        """Say what was allowed in words."""
        if _is_loopback(parse_address(self._settings.listen)[0]):
            return
        if not knows_callers:
            logger.warning("listening beyond this machine, and anyone may call")
        if self.tls is None:
            logger.warning("listening beyond this machine without TLS")

    async def close(self) -> None:
        """Wait for what goes on in the background."""
        for closer in self._closers:
            await closer()


def _tls(settings: ServiceSettings) -> ServerTls | None:
    if not settings.tls_certificate:
        return None
    files = TlsFiles(settings.tls_certificate, settings.tls_key, settings.tls_client_roots)
    return ServerTls(files)


def _jwt_rules(settings: ServiceSettings) -> JwtRules:
    algorithms = tuple(name.strip() for name in settings.jwt_algorithms.split(",") if name.strip())
    strange = [name for name in algorithms if name not in ALGORITHMS]
    if strange or not algorithms:
        raise SettingsError(f"--jwt-algorithms must be some of {', '.join(ALGORITHMS)}")
    return JwtRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=algorithms,
        tenant_claim=settings.jwt_tenant_claim,
        scope_claim=settings.jwt_scope_claim,
        leeway_seconds=settings.jwt_leeway_seconds,
    )


def _check_together(settings: ServiceSettings) -> None:
    """Settings that have no sense without others."""
    if bool(settings.tls_certificate) != bool(settings.tls_key):
        raise SettingsError("--tls-certificate and --tls-key need each other")
    if settings.tls_client_roots and not settings.tls_certificate:
        raise SettingsError("--tls-client-roots needs --tls-certificate and --tls-key")
    if settings.spiffe_tenants and not settings.tls_client_roots:
        raise SettingsError("--spiffe-tenants needs --tls-client-roots")
    if settings.jwt_keys and not (settings.jwt_issuer and settings.jwt_audience):
        raise SettingsError("--jwt-keys needs --jwt-issuer and --jwt-audience")


def _check_exposure(settings: ServiceSettings) -> None:
    """Beyond this machine, nothing is open that nobody has said shall be."""
    host, _ = parse_address(settings.listen)
    if _is_loopback(host):
        return
    asks = settings.api_key_pepper or settings.jwt_keys or settings.tls_client_roots
    if not asks and not settings.allow_anonymous:
        raise SettingsError(
            f"--listen {settings.listen} is beyond this machine, and anyone could call: set "
            "--api-key-pepper, --jwt-keys or --tls-client-roots, or say --allow-anonymous"
        )
    if not settings.tls_certificate and not settings.allow_plaintext:
        raise SettingsError(
            f"--listen {settings.listen} is beyond this machine, and all would be sent in the "
            "clear: set --tls-certificate and --tls-key, or say --allow-plaintext, as behind a "
            "proxy that ends TLS"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
