"""What the gateway answers in place of what was asked for, in OpenAI's shape.

Every error of the service keeps its message; the status, the type and the code are
those that OpenAI's clients act upon, and `param` is the name of the field in the
request as it came, not as the contract calls it.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import Any

from miao_client import errors
from miao_client.recovery import spread

INVALID = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    type: str
    code: str | None
    again: bool | None = None  # whether a client should try again; None leaves it to the client


_KINDS: tuple[tuple[type[errors.MiaoError], _Kind], ...] = (
    (errors.InvalidRequestError, _Kind(400, INVALID, "invalid_value")),
    (errors.ModelNotFoundError, _Kind(404, INVALID, "model_not_found")),
    (errors.NotFoundError, _Kind(404, INVALID, "not_found")),
    (errors.AlreadyExistsError, _Kind(409, INVALID, "idempotency_key_in_use", again=False)),
    (errors.AuthenticationError, _Kind(401, "authentication_error", "invalid_api_key")),
    (errors.PermissionDeniedError, _Kind(403, "permission_error", "permission_denied")),
    (errors.BusyError, _Kind(429, "rate_limit_error", "rate_limit_exceeded")),
    (errors.UnavailableError, _Kind(503, "server_error", "unavailable")),
    (errors.DeadlineExceededError, _Kind(504, "server_error", "deadline_exceeded", again=False)),
    (errors.UnsupportedError, _Kind(501, "server_error", "unsupported", again=False)),
    (errors.GenerationCancelledError, _Kind(409, "server_error", "cancelled", again=False)),
    (errors.GenerationFailedError, _Kind(500, "server_error", "generation_failed")),
    (errors.DataLossError, _Kind(500, "server_error", "data_loss", again=False)),
    (errors.MiaoError, _Kind(500, "server_error", "internal")),
)


class Refusal(Exception):  # noqa: N818  # reads as what the gateway does
    """An error as it is answered."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        again: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self._retry_after = retry_after
        self._again = again

    @classmethod
    def of(cls, error: errors.MiaoError) -> Refusal:
        """What an error of the SDK is to a client of OpenAI's."""
        kind = next(kind for type_, kind in _KINDS if isinstance(error, type_))
        message, param = error.message, None
        if isinstance(error, errors.InvalidRequestError) and error.violations:
            first = error.violations[0]
            param = own_name(first.field)
            message = "; ".join(
                f"{own_name(each.field)} {each.description}" for each in error.violations
            )
        elif isinstance(error, errors.ModelNotFoundError):
            param = "model"
        return cls(
            message,
            status=kind.status,
            kind=kind.type,
            code=kind.code,
            param=param,
            retry_after=error.retry_after,
            again=kind.again,
        )

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        fields = {"message": self.message, "type": self.kind, "param": self.param}
        return {"error": {**fields, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, and whether at all, as OpenAI's clients read it."""
        headers = {}
        if self._retry_after is not None:
            headers["retry-after"] = str(math.ceil(self._retry_after))
            # OpenAI's clients come back at the very moment; so not all are told the same.
            spread_out = spread(self._retry_after, random.random())  # noqa: S311
            headers["retry-after-ms"] = str(math.ceil(spread_out * 1000))
        if self._again is not None:
            headers["x-should-retry"] = "true" if self._again else "false"
        return headers


# Where a field of the contract stands in a request of OpenAI's, the longest beginning first.
_OWN_NAMES = (
    (r"spec\.sampling\.", ""),
    (r"spec\.chat\.messages", "messages"),
    (r"^spec\.chat$", "messages"),
    (r"^spec\.token_ids$", "prompt"),
    (r"spec\.chat\.enable_thinking", "chat_template_kwargs.enable_thinking"),
    (r"spec\.tools\[(\d+)\]\.parameters_json_schema", r"tools[\1].function.parameters"),
    (r"spec\.tools\[(\d+)\]\.", r"tools[\1].function."),
    (r"spec\.response_format\.json_schema", "response_format.json_schema.schema"),
    (r"spec\.token_ids\.ids", "prompt"),
    (r"spec\.logprobs", "top_logprobs"),
    (r"spec\.", ""),
    (r"handling\.", ""),
    (r"^inputs", "input"),
    (r"^request_id$", "Idempotency-Key"),
)


def own_name(field: str) -> str:
    """The name of a field of the contract as a client of the gateway knows it."""
    for pattern, name in _OWN_NAMES:
        field = re.sub(pattern, name, field, count=1)
    return re.sub(r"(tool_calls\[\d+\])\.(name|arguments)(_json)?", r"\1.function.\2", field)
