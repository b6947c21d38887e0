"""The walks of docs/security.md, line by line in bash; `miao` and Python run in this process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import http.server
import io
import os
import re
import runpy
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from miao_client.cli import main as miao
from miao_service.auth import key_sets
from miao_service.front import running_front
from miao_service.settings import ServiceSettings

PAGE = (Path(__file__).parents[3] / "docs/security.md").read_text("utf-8")
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"\bmiao models +# (.*)$", re.MULTILINE)

# Sends a command with the variables that are its, and prints the answer.
CALLS = r"""
call() {
    exec 9<>"/dev/tcp/127.0.0.1/$CALLS"
    { printf '%s\0' "$#" "$@"; env -0 | grep -z '^MIAO_' || true; printf '\0'; } >&9
    cat <&9
}
miao() { call miao "$@"; }
python() { call python "$@"; }
"""


class Walk:
    """Runs a walk, and keeps what its callers were told."""

    def __init__(self, stack: contextlib.AsyncExitStack, redis_url: str) -> None:
        self._stack = stack
        self._redis_url = redis_url
        self.told: list[str] = []

    async def run(self, script: str) -> None:
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-eu", "-o", "pipefail", "-c", CALLS + script),
                env={
                    "PATH": os.environ["PATH"],
                    "CALLS": str(server.sockets[0].getsockname()[1]),
                },
                stderr=asyncio.subprocess.PIPE,
            )
            _, complaints = await process.communicate()
            assert process.returncode == 0, complaints.decode()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def read() -> str:
            return (await reader.readuntil(b"\0"))[:-1].decode()

        words = [await read() for _ in range(int(await read()))]
        environ: dict[str, str] = {}
        while entry := await read():
            name, _, environ[name] = entry.partition("=")
        try:
            writer.write((await self._obey(words, environ)).encode())
        finally:
            writer.close()

    async def _obey(self, words: list[str], environ: dict[str, str]) -> str:
        match words:
            case ["miao", "service", *options]:
                settings = ServiceSettings.read(options, {"REDIS_URL": self._redis_url})
                settings = dataclasses.replace(settings, drain_seconds=0.2)
                await self._stack.enter_async_context(running_front(settings))
            case ["python", "-m", "http.server", *_, folder, port]:
                self._stack.enter_context(web_server(folder, int(port)))
            case ["python", *argv]:
                return await asyncio.to_thread(printed, functools.partial(run_file, argv), environ)
            case [_, *argv]:
                said = await asyncio.to_thread(printed, functools.partial(miao, argv), environ)
                self.told.append(said)
        return ""


@contextlib.contextmanager
def web_server(folder: str, port: int) -> Iterator[None]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def run_file(argv: list[str]) -> None:
    with mock.patch.object(sys, "argv", argv):
        runpy.run_path(argv[0])


def printed(command: Callable[[], object], environ: dict[str, str]) -> str:
    """What a command prints, in whichever way."""
    into = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with (
        mock.patch.dict(os.environ, environ | {"MIAO_PROFILE": ""}),
        mock.patch.object(signal, "signal"),  # which is for main threads
        contextlib.redirect_stdout(into),
        contextlib.redirect_stderr(into),
    ):
        command()
    into.seek(0)
    return into.read()


def script_of(title: str) -> str:
    """A walk as a script; what would run beside it is awaited."""
    section = PAGE.split(f"### {title}\n")[1].split("\n#")[0]
    script = "".join(BLOCK.findall(section)).replace(" &\n", "\n")
    for port in ("50051", "8000"):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            script = script.replace(port, str(listener.getsockname()[1]))
    return script


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
@pytest.mark.parametrize(
    ("title", "number"), [("A walk with certificates", 10), ("A walk with tokens", 7)]
)
async def test_each_caller_is_told_what_the_page_says(
    title: str,
    number: int,
    redis_url: str,
    worker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(key_sets, "_HURRY_SECONDS", 0.0)  # nobody waits here
    script = script_of(title)
    async with contextlib.AsyncExitStack() as stack:
        walk = Walk(stack, redis_url)
        await walk.run(script)
    expected = EXPECTED.findall(script)
    assert len(expected) == number
    for words, told in zip(expected, walk.told, strict=True):
        assert words in " ".join(told.split()), walk.told
