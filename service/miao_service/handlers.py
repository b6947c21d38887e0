"""Between gRPC and the servicers: bytes in, bytes out, and one way for things to go wrong.

The handlers are made from the contract's descriptors. A method that streams is
given the call and sends bytes by itself, since what it relays is serialised
already; one that does not returns its response.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from redis.exceptions import RedisError

from miao_queue.audit import AuditTrail
from miao_queue.telemetry.faults import describe
from miao_queue.vault import UnreadableError
from miao_service import validation
from miao_service.auth.authenticator import Authenticator, require
from miao_service.auth.identity import SCOPE_OF, Identity, Scope
from miao_service.call_watch import CallWatch
from miao_service.errors import (
    CallerLeftError,
    FrontError,
    InvalidRequestError,
    UnexpectedError,
    UnreadableJournalError,
    from_redis,
)

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# The methods whose responses are journal entries, relayed as the bytes they are.
RELAYED = frozenset({"Generate", "FollowGeneration"})

DETAILS_KEY = "grpc-status-details-bin"

# What sending raises when the caller has left: mostly its call is cancelled, but one that
# leaves in the very moment makes gRPC fail.
CALLER_LEFT = (asyncio.CancelledError, grpc.aio.InternalError)


class Call:
    """One call, as a servicer sees it.

    identity: who calls; what it may do has been looked at already.
    generation_id: what the call is about, once that is known, for the audit.
    is_at_end: the last of a stream is being sent; whoever leaves then has got what it wanted.
    send: sends one message of a stream; waits while the caller does not read.
    """

    def __init__(self, context: Any, identity: Identity) -> None:
        self._context: grpc.aio.ServicerContext[bytes, bytes] = context
        self.identity = identity
        self.generation_id = ""
        self.is_at_end = False
        self.send: Callable[[bytes], Awaitable[None]] = context.write

    @property
    def tenant(self) -> str:
        """Whose call it is."""
        return self.identity.tenant

    def time_remaining(self) -> float | None:
        """Seconds until the call's own deadline."""
        remaining: float | None = self._context.time_remaining()
        return remaining


def generic_handler(
    service: ServiceDescriptor, servicer: object, authenticator: Authenticator, audit: AuditTrail
) -> grpc.GenericRpcHandler:
    """A service's methods, each for those whom the authenticator knows.

    AttributeError if the servicer lacks one, KeyError for one that has no scope.
    """
    handlers = {
        method.name: _method_handler(method, servicer, authenticator, audit)
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _method_handler(
    method: MethodDescriptor, servicer: object, authenticator: Authenticator, audit: AuditTrail
) -> grpc.RpcMethodHandler[Any, Any]:
    function = getattr(servicer, _snake_case(method.name))
    request_class = GetMessageClass(method.input_type)
    scope = SCOPE_OF[method.name]
    assert method.server_streaming == (method.name in RELAYED)
    if method.server_streaming:

        async def relay(payload: bytes, context: Any, watch: CallWatch) -> bytes:
            call = await _admit(context, watch, authenticator, scope)
            await function(_checked(request_class, payload), call)
            return b""

        async def stream(payload: bytes, context: Any) -> None:
            watch = CallWatch(method.name, context, audit, is_stream=True)
            await guarded(context, watch, relay(payload, context, watch))

        return grpc.unary_stream_rpc_method_handler(stream)

    async def respond(payload: bytes, context: Any, watch: CallWatch) -> bytes:
        call = await _admit(context, watch, authenticator, scope)
        response: Message = await function(_checked(request_class, payload), call)
        return response.SerializeToString()

    async def answer(payload: bytes, context: Any) -> bytes:
        watch = CallWatch(method.name, context, audit, is_stream=False)
        return await guarded(context, watch, respond(payload, context, watch))

    return grpc.unary_unary_rpc_method_handler(answer)


async def _admit(
    context: Any, watch: CallWatch, authenticator: Authenticator, scope: Scope
) -> Call:
    """The call of who is known; a refusal for want of the scope is noted under its name."""
    call = watch.call = Call(context, await authenticator.identify(context))
    require(call.identity, scope)
    return call


def _checked(request_class: type[Message], payload: bytes) -> Message:
    try:
        request = request_class.FromString(payload)
    except DecodeError:
        name = request_class.DESCRIPTOR.name
        raise InvalidRequestError.of("", f"the request is not a valid {name}") from None
    validation.check(request)
    return request


async def guarded(context: Any, watch: CallWatch, work: Awaitable[_Result]) -> _Result:
    """Turn whatever goes wrong into a rich status."""
    with watch:
        try:
            return await work
        except FrontError as error:
            await _abort(context, watch.refused(error))
        except UnreadableError as error:
            await _abort(context, watch.refused(UnreadableJournalError(error)))
        except (RedisError, OSError, TimeoutError) as error:
            logger.warning("a call failed for Redis: %s", type(error).__name__)
            await _abort(context, watch.refused(from_redis(error)))
        except asyncio.CancelledError:
            raise
        except grpc.aio.InternalError:
            await _abort(context, watch.refused(CallerLeftError()))
        except Exception as error:
            await _abort(context, watch.refused(_logged(error)))


async def _abort(context: Any, error: FrontError) -> NoReturn:
    trailing = ((DETAILS_KEY, error.to_status().SerializeToString()),)
    try:
        await context.abort(error.code, error.message, trailing)
    except grpc.aio.InternalError as gone:
        raise asyncio.CancelledError from gone
    raise AssertionError("abort raises")


def _logged(error: Exception) -> UnexpectedError:
    error_id = secrets.token_hex(6)
    logger.error("error %s", error_id, extra={"fault": describe(error)})
    return UnexpectedError(error_id)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
