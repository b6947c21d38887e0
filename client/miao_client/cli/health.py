"""Asks a front for its health through grpc.health.v1.

The two messages are small enough to read as bytes, so no package is needed:
the request names a service in field 1, the answer has its state there.
"""

from __future__ import annotations

import grpc

from miao_client.targets import CHANNEL_OPTIONS
from miao_client.tls import Tls

_CHECK = "/grpc.health.v1.Health/Check"
_WHOLE_SERVER = b""
_STATES = {
    b"": "unknown",
    b"\x08\x00": "unknown",
    b"\x08\x01": "serving",
    b"\x08\x02": "not serving",
    b"\x08\x03": "unknown service",
}


def probe(target: str, timeout_seconds: float, tls: Tls | None = None) -> str:
    """The state of the front at this address, in a word or two."""
    if tls is None:
        opened = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    else:
        opened = grpc.secure_channel(target, tls.credentials(), options=CHANNEL_OPTIONS)
    with opened as channel:
        check = channel.unary_unary(_CHECK, request_serializer=bytes, response_deserializer=bytes)
        try:
            return _STATES.get(check(_WHOLE_SERVER, timeout=timeout_seconds), "unknown")
        except grpc.RpcError as error:
            unknown = isinstance(error, grpc.Call) and error.code() in _ANSWERED
            return "unknown" if unknown else "unreachable"


# A server is there, but keeps its health to itself.
_ANSWERED = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)
