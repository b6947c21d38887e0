"""The front's settings, read once from arguments and environment."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from miao_queue.addresses import AddAddress
from miao_queue.audit import KEPT
from miao_queue.durability import Durability, Safety
from miao_queue.telemetry.exposition import MetricsListenError, parse_listen
from miao_queue.telemetry.logs import FORMS, LEVELS, LogSettings
from miao_queue.vault import Encryption

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


class SettingsError(ValueError):
    """A setting has a value that it cannot have."""


def _setting(
    default: Any, env: str, text: str, *, least: float = 0, words: Iterable[str] = ()
) -> Any:
    metadata = {"env": env, "help": text, "least": least, "words": tuple(words)}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Each field is an option `--its-name` and an environment variable."""

    listen: str = _setting(
        "127.0.0.1:50051", "MIAO_LISTEN", "host and port to listen on; port 0 takes a free one"
    )
    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "REDIS_URL",
        "redis://, rediss://, unix:// or redis+sentinel://HOST,HOST/NAME address; several, "
        "NAME=URL each, in a list or by saying it again",
    )
    processes: int = _setting(
        1, "MIAO_PROCESSES", "how many front processes share the port", least=1
    )
    reuse_port: bool = _setting(
        False, "MIAO_REUSE_PORT", "let other processes listen on the same port"
    )
    backlog_limit: int = _setting(
        1000, "MIAO_BACKLOG_LIMIT", "the most generations of a model that may wait"
    )
    limits_file: str = _setting(
        "",
        "MIAO_LIMITS_FILE",
        "what each tenant may ask of each model, in TOML; read when it changes",
    )
    predict_wait: bool = _setting(
        True, "MIAO_PREDICT_WAIT", "refuse at once what would wait for longer than it may"
    )
    queue_without_worker: bool = _setting(
        False, "MIAO_QUEUE_WITHOUT_WORKER", "queue for a model that no worker serves now"
    )
    retention_seconds: int = _setting(
        3600, "MIAO_RETENTION_SECONDS", "how long a finished generation can be read", least=1
    )
    answer_retention_seconds: int = _setting(
        120,
        "MIAO_ANSWER_RETENTION_SECONDS",
        "how long the answer of an Embed, Classify or Rerank can be asked for again",
        least=1,
    )
    queue_timeout_seconds: float = _setting(
        600.0, "MIAO_QUEUE_TIMEOUT_SECONDS", "wait for a worker, unless a request says", least=0.001
    )
    max_timeout_seconds: float = _setting(
        86400.0, "MIAO_MAX_TIMEOUT_SECONDS", "the longest a generation may take", least=0.001
    )
    durability: str = _setting(
        Safety.SERVER.value,
        "MIAO_DURABILITY",
        "when to answer that a generation is accepted: server (when Redis has it), fsync (when it "
        "is on the disk of Redis), replica (when a replica has it too)",
        words=Safety,
    )
    drain_seconds: float = _setting(
        20.0, "MIAO_DRAIN_SECONDS", "how long open streams may go on after SIGTERM"
    )
    follow_outage_seconds: float = _setting(
        60.0, "MIAO_FOLLOW_OUTAGE_SECONDS", "how long open streams wait for Redis to return"
    )
    redis_timeout_seconds: float = _setting(
        5.0, "MIAO_REDIS_TIMEOUT_SECONDS", "the longest a request waits for Redis", least=0.001
    )
    refresh_seconds: float = _setting(
        1.0, "MIAO_REFRESH_SECONDS", "how often models and health are looked at", least=0.001
    )
    forget_model_seconds: float = _setting(
        86400.0,
        "MIAO_FORGET_MODEL_SECONDS",
        "forget a model that no worker has served for so long and for which nothing waits",
        least=0.001,
    )
    stream_buffer_bytes: int = _setting(
        256 * 1024, "MIAO_STREAM_BUFFER_BYTES", "memory for a reader that stalls", least=1024
    )
    max_connection_age_seconds: float = _setting(
        0.0, "MIAO_MAX_CONNECTION_AGE_SECONDS", "ask clients to reconnect after this; 0: never"
    )
    audit_entries: int = _setting(
        KEPT, "MIAO_AUDIT_ENTRIES", "how many audit records are kept, of all fronts; 0: none"
    )
    usage_retention_days: int = _setting(
        35,
        "MIAO_USAGE_RETENTION_DAYS",
        "how long the usage record of each generation is kept; the sums of a day: 400 days",
        least=1,
    )
    log_format: str = _setting(
        "auto",
        "MIAO_LOG_FORMAT",
        "json, console, or auto: console where standard error is a terminal, else json",
        words=FORMS,
    )
    log_level: str = _setting("info", "MIAO_LOG_LEVEL", "the least that is logged", words=LEVELS)
    metrics_listen: str = _setting(
        "",
        "MIAO_METRICS_LISTEN",
        "[HOST:]PORT to serve Prometheus metrics on, on loopback unless a host is named; port 0 "
        "takes a free one; empty: nowhere",
    )
    health_listen: str = _setting(
        "",
        "MIAO_HEALTH_LISTEN",
        "[HOST:]PORT to serve gRPC's health alone on, without TLS, for probes; on loopback unless "
        "a host is named; port 0 takes a free one; empty: nowhere but beside the service",
    )
    traces_endpoint: str = _setting(
        "",
        "MIAO_TRACES_ENDPOINT",
        "send traces to this OTLP collector, such as http://127.0.0.1:4317; empty: nowhere",
    )
    ready_file: str = _setting(
        "", "MIAO_READY_FILE", "write the port into this file once the front listens"
    )

    tls_certificate: str = _setting(
        "", "MIAO_TLS_CERTIFICATE", "PEM file of the front's certificate and those between"
    )
    tls_key: str = _setting("", "MIAO_TLS_KEY", "PEM file of the certificate's private key")
    tls_client_roots: str = _setting(
        "", "MIAO_TLS_CLIENT_ROOTS", "PEM file of roots; callers must have a certificate of these"
    )
    spiffe_tenants: str = _setting(
        "", "MIAO_SPIFFE_TENANTS", "file that says whose a certificate's SPIFFE id is"
    )
    api_key_pepper: str = _setting(
        "", "MIAO_API_KEY_PEPPER", "file of peppers; callers are known by API keys (miao keys)"
    )
    api_key_cache_seconds: float = _setting(
        5.0, "MIAO_API_KEY_CACHE_SECONDS", "after which a revoked key is refused everywhere"
    )
    jwt_keys: str = _setting(
        "", "MIAO_JWT_KEYS", "file or https address of a JWKS; callers are known by tokens"
    )
    jwt_issuer: str = _setting("", "MIAO_JWT_ISSUER", "what a token's iss must be")
    jwt_audience: str = _setting("", "MIAO_JWT_AUDIENCE", "what a token's aud must be, or hold")
    jwt_algorithms: str = _setting(
        "RS256,PS256,ES256,Ed25519", "MIAO_JWT_ALGORITHMS", "with which a token may be signed"
    )
    jwt_tenant_claim: str = _setting("tenant", "MIAO_JWT_TENANT_CLAIM", "names a token's tenant")
    jwt_scope_claim: str = _setting(
        "", "MIAO_JWT_SCOPE_CLAIM", "lists a token's scopes; empty: each token has all"
    )
    jwt_leeway_seconds: int = _setting(
        30, "MIAO_JWT_LEEWAY_SECONDS", "by how much the issuer's clock may differ"
    )
    signing_keys: str = _setting(
        "", "MIAO_SIGNING_KEYS", "file of keys; jobs are signed, and workers run no others"
    )
    encryption_keys: str = _setting(
        "", "MIAO_ENCRYPTION_KEYS", "file of keys; prompts and outputs are encrypted in Redis"
    )
    encryption: str = _setting(
        Encryption.REQUIRE.value,
        "MIAO_ENCRYPTION",
        "with keys: require (encrypt, and read nothing else), on (encrypt, and read what was "
        "written before), accept (read what others encrypt)",
        words=Encryption,
    )
    allow_anonymous: bool = _setting(
        False, "MIAO_ALLOW_ANONYMOUS", "let anyone call, also from beyond this machine"
    )
    allow_plaintext: bool = _setting(
        False, "MIAO_ALLOW_PLAINTEXT", "listen beyond this machine without TLS"
    )

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, least = getattr(self, entry.name), entry.metadata["least"]
            if isinstance(value, int | float) and value < least:
                raise SettingsError(f"{_option(entry)} must be at least {least}, not {value}")
            words = entry.metadata["words"]
            if words and value not in words:
                raise SettingsError(f"{_option(entry)} must be {', '.join(words)}, not {value!r}")
        parse_address(self.listen)
        for name in ("metrics_listen", "health_listen"):
            if listen := getattr(self, name):
                try:
                    parse_listen(listen, "--" + name.replace("_", "-"))
                except MetricsListenError as error:
                    raise SettingsError(str(error)) from None

    @property
    def logs(self) -> LogSettings:
        """How this front logs."""
        return LogSettings(self.log_format, self.log_level)

    @property
    def acceptance(self) -> Durability:
        """How safe an acceptance must be; half of Redis's time is for waiting."""
        return Durability(Safety(self.durability), int(self.redis_timeout_seconds * 500))

    @classmethod
    def read(cls, argv: Sequence[str], environ: Mapping[str, str]) -> ServiceSettings:
        """Arguments win over the environment; SettingsError says what is wrong."""
        values = {entry.name: _from_environ(entry, environ) for entry in fields(cls)}
        given = vars(parser().parse_args(argv))
        return cls(**(values | {name: given[name] for name in given if name in values}))


def parser() -> argparse.ArgumentParser:
    """The command line. Options that are not given leave no attribute."""
    result = argparse.ArgumentParser(
        prog="miao service",
        description="Run a gRPC front. Each option has an environment variable of its own.",
        argument_default=argparse.SUPPRESS,
    )
    for entry in fields(ServiceSettings):
        text = f"{entry.metadata['help']} [{entry.metadata['env']}, default: {entry.default}]"
        if isinstance(entry.default, bool):
            result.add_argument(_option(entry), action=argparse.BooleanOptionalAction, help=text)
        else:
            kind = type(entry.default)
            if entry.name == "redis_url":
                result.add_argument(_option(entry), action=AddAddress, metavar="TEXT", help=text)
                continue
            metavar = {int: "N", float: "SECONDS"}.get(kind, "TEXT")
            result.add_argument(_option(entry), type=kind, metavar=metavar, help=text)
    return result


def parse_address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`; SettingsError if it is neither."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--listen must be host:port, not {listen!r}")
    return host.strip("[]"), int(port)


def _option(entry: Field[Any]) -> str:
    return "--" + entry.name.replace("_", "-")


def _from_environ(entry: Field[Any], environ: Mapping[str, str]) -> Any:
    name = entry.metadata["env"]
    text = environ.get(name, "").strip()
    if not text:
        return entry.default
    if isinstance(entry.default, bool):
        if text.lower() not in _YES | _NO:
            raise SettingsError(f"{name} must be yes or no, not {text!r}")
        return text.lower() in _YES
    try:
        kind: Any = type(entry.default)
        return kind(text)
    except ValueError:
        raise SettingsError(f"{name} must be a number, not {text!r}") from None
