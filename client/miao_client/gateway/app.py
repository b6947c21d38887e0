"""Assembles the gateway's ASGI application."""

from __future__ import annotations

import logging
import traceback
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from miao_client.aio.client import AsyncClient
from miao_client.errors import MiaoError
from miao_client.gateway.attendance import CallerLeft
from miao_client.gateway.endpoints import Endpoints
from miao_client.gateway.errors import Refusal

_log = logging.getLogger("miao.gateway")

DEFAULT_MOST_BODY_BYTES = 16 * 1024 * 1024


def create_app(
    client: AsyncClient, *, lenient: bool = False, most_body_bytes: int = DEFAULT_MOST_BODY_BYTES
) -> ASGIApp:
    """The application; it closes the client when it stops.

    Args:
        client: Has no key of its own: each caller shows theirs.
        lenient: Leave out what cannot be honoured, and say so in a header.
        most_body_bytes: Refuse larger requests.
    """
    to = Endpoints(client, lenient, most_body_bytes)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.close()

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", to.chat_completions, methods=["POST"]),
            Route("/v1/completions", to.completions, methods=["POST"]),
            Route("/v1/embeddings", to.embeddings, methods=["POST"]),
            Route("/v1/models", to.list_models, methods=["GET"]),
            Route("/v1/models/{name:path}", to.get_model, methods=["GET"]),
            Route("/health", to.health, methods=["GET"]),
        ],
        exception_handlers={
            Refusal: _refused,
            MiaoError: _failed,
            HTTPException: _unknown,
            CallerLeft: _left,
        },
        lifespan=lifespan,
    )
    return _Guarded(app)


class _Guarded:
    """Answers what nobody foresaw with a number, under which the log says where it was.

    The error's own words stay out of both: they may hold a prompt.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if scope["type"] != "http":
                raise
            number = uuid.uuid4().hex[:8]
            _log.error("unexpected error %s: %s", number, _describe(error))
            if not begun:
                message = f"the gateway failed unexpectedly; its log says more under {number}"
                refusal = Refusal(message, status=500, kind="server_error", code="internal")
                await _response(refusal)(scope, receive, send)


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-8:]))
    return f"{type(error).__name__} at {where}"


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _response(error)


def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, MiaoError)
    return _response(Refusal.of(error))


def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    message = f"there is no {request.method} {request.url.path} here"
    return _response(Refusal(message, status=status, code="unknown_url"))


def _left(_: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the access log does


def _response(refusal: Refusal) -> Response:
    return JSONResponse(refusal.body, refusal.status, headers=refusal.headers)
