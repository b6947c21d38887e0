"""The gateway over real HTTP before a fake service, called with OpenAI's own package."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import openai
import pytest
import uvicorn

from miao_client import AsyncClient
from miao_client.gateway.app import create_app
from miao_client.testing import FakeService

Serve = Callable[..., AbstractAsyncContextManager[str]]


@pytest.fixture
def miao_service() -> Iterator[FakeService]:
    """As the plugin gives it; only the topmost conftest may name plugins."""
    with FakeService() as service:
        yield service


@asynccontextmanager
async def serving(target: str, **options: Any) -> AsyncIterator[str]:
    """A gateway before the service at this address; gives its own."""
    app = create_app(AsyncClient(target, api_key=""), **options)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


@pytest.fixture
async def address(miao_service: FakeService) -> AsyncIterator[str]:
    async with serving(miao_service.target) as address:
        yield address


@pytest.fixture
async def client(address: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{address}/v1", api_key="callers-key", max_retries=0, timeout=20
    ) as client:
        yield client
