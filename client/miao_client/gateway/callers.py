"""Who calls over HTTP, as the service is to know it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from miao_client.aio.client import AsyncClient
from miao_client.gateway.errors import Refusal

_TRACE_HEADERS = ("traceparent", "tracestate")


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's credential, idempotency key and trace.

    Who sends a key can come back with it, so its generation runs on when the
    connection breaks; any other generation is cancelled then.
    """

    api_key: str | None = field(repr=False)
    key: str
    can_come_back: bool
    metadata: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, request: Request) -> Caller:
        """Read the request's headers.

        Raises:
            Refusal: The credential is none that the service could know.
        """
        key = request.headers.get("idempotency-key")
        found = ((name, request.headers.get(name)) for name in _TRACE_HEADERS)
        return cls(
            api_key=_bearer(request.headers.get("authorization")),
            key=uuid.uuid4().hex if key is None else key,
            can_come_back=key is not None,
            metadata=tuple((name, value) for name, value in found if value and value.isascii()),
        )

    def client(self, shared: AsyncClient) -> AsyncClient:
        """The gateway's client, in this caller's name."""
        return shared.with_options(api_key=self.api_key, metadata=self.metadata)

    def options(self, index: int = 0, count: int = 1) -> dict[str, Any]:
        """How one of a request's generations is called, and what its caller's leaving means."""
        key = self.key if count == 1 else f"{self.key}-{index}"
        return {"request_id": key} | ({"on_disconnect": "continue"} if self.can_come_back else {})

    def request_id(self) -> dict[str, Any]:
        """The same of a call that answers once."""
        return {"request_id": self.key}


def _bearer(header: str | None) -> str | None:
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not all(" " < each <= "~" for each in token):
        raise Refusal(
            "the Authorization header must be a bearer token",
            status=401,
            kind="authentication_error",
            code="invalid_api_key",
        )
    return token or None
