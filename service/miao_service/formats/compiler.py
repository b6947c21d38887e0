"""The front's handle on the process that compiles formats."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import OrderedDict

from miao.v1 import generation_pb2 as pb
from miao_service.errors import InvalidRequestError
from miao_service.formats.process import LENGTH

MAX_SECONDS = 3.0  # to compile one format
_START_SECONDS = 30.0
# A fork of a process with gRPC's threads dies now and then before it is another program.
_MAX_STARTS = 4
_MAX_KEPT = 256  # formats whose answer is known


class _TooComplexError(Exception):
    """The process has ended, or has taken too long."""


class FormatCompiler:
    """Compiles formats one after the other; the process starts with the first of them."""

    def __init__(self, max_seconds: float = MAX_SECONDS) -> None:
        self._max_seconds = max_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self._kept: OrderedDict[bytes, dict[str, str]] = OrderedDict()

    async def compile(self, response_format: pb.ResponseFormat, path: str) -> str:
        """The grammar that a format stands for; `path` is its field.

        Raises InvalidRequestError with the part of the format that is wrong.
        """
        request = response_format.SerializeToString(deterministic=True)
        name = response_format.WhichOneof("format")
        try:
            answer = self._kept.get(request) or await self._ask(request)
        except _TooComplexError:
            raise InvalidRequestError.of(f"{path}.{name}", self._too_complex) from None
        if "fault" in answer:
            raise InvalidRequestError.of(f"{path}.{answer['field']}", answer["fault"])
        return answer["grammar"]

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            if not self._has_ended(process):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()

    @property
    def _too_complex(self) -> str:
        return f"is too complex: it does not compile in {self._max_seconds:g} s and 1 GiB"

    async def _ask(self, request: bytes) -> dict[str, str]:
        async with self._lock:
            await self._start()
            try:
                answer = await self._exchange(request)
            except BaseException as error:
                await self.close()  # it may be amid an answer
                if isinstance(error, TimeoutError | asyncio.IncompleteReadError | OSError):
                    answer = {}
                else:
                    raise
        if not answer:
            raise _TooComplexError
        self._kept[request] = answer
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return answer

    async def _start(self) -> None:
        if self._process is not None and self._process.returncode is None:
            return
        for _ in range(_MAX_STARTS):
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "miao_service.formats.process"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # it may quote a caller's text
            )
            try:
                async with asyncio.timeout(_START_SECONDS):
                    await self._send(pb.ResponseFormat(regex="a").SerializeToString())
                return
            except BaseException as error:
                await self.close()
                if not isinstance(error, RuntimeError | OSError | asyncio.IncompleteReadError):
                    raise
        raise ChildProcessError("the process that compiles formats does not start")

    @staticmethod
    def _has_ended(process: asyncio.subprocess.Process) -> bool:
        """Whether nothing more can come of it, even where asyncio has not noticed yet."""
        return process.stdout is not None and process.stdout.at_eof()

    async def _exchange(self, request: bytes) -> dict[str, str]:
        async with asyncio.timeout(self._max_seconds):
            return await self._send(request)

    async def _send(self, request: bytes) -> dict[str, str]:
        assert self._process is not None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(LENGTH.pack(len(request)) + request)
        await stdin.drain()
        (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
        answer: dict[str, str] = json.loads(await stdout.readexactly(length))
        return answer
