"""The process that compiles formats: what harms it harms only its own request."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from miao.v1 import generation_pb2 as pb
from miao_service.errors import InvalidRequestError
from miao_service.formats.compiler import FormatCompiler

PATH = "spec.response_format"
# Rules within rules: the recursion leaves the stack behind.
DEEP = "start: r0\n" + "".join(f"r{i}: r{i + 1} r{i + 1}\n" for i in range(3000)) + 'r3000: "x"'


@pytest.fixture
async def compiler() -> AsyncIterator[FormatCompiler]:
    compiler = FormatCompiler()
    yield compiler
    await compiler.close()


async def test_a_format_that_ends_the_process_is_refused_alone(compiler: FormatCompiler) -> None:
    regex = pb.ResponseFormat(regex="[a-z]+")
    before = await compiler.compile(regex, PATH)
    with pytest.raises(
        InvalidRequestError, match=r"spec\.response_format\.grammar: is too complex"
    ):
        await compiler.compile(pb.ResponseFormat(grammar=DEEP), PATH)
    with pytest.raises(InvalidRequestError, match=r"spec\.response_format\.regex: at character 1"):
        await compiler.compile(pb.ResponseFormat(regex="(a"), PATH)
    assert await compiler.compile(regex, PATH) == before


async def test_a_format_that_takes_too_long_is_refused() -> None:
    compiler = FormatCompiler(max_seconds=0.0)
    with pytest.raises(InvalidRequestError, match="does not compile in 0 s"):
        await compiler.compile(pb.ResponseFormat(regex="a"), PATH)
    await compiler.close()


ADVERSARIAL = [
    pb.ResponseFormat(regex="(((((a{1000}){1000}){1000}){1000}){1000})"),
    pb.ResponseFormat(regex="(a|b)*" * 1000),
    pb.ResponseFormat(regex="(x{1,1000}y{1,1000}){1,1000}" * 50),
    pb.ResponseFormat(regex=r"[\s\S]*a[\s\S]{4000}"),
    pb.ResponseFormat(grammar="start: " + " | ".join(f"/[a-z]{{{i}}}x.*y/" for i in range(500))),
    pb.ResponseFormat(grammar='start: (("a"{1000}){1000}){1000}'),
    pb.ResponseFormat(json_schema='{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}'),
    pb.ResponseFormat(json_schema='{"allOf": [' + ",".join(['{"anyOf": [{"minimum": 1}, {"maximum": 9}, {"type": "string"}]}'] * 30) + "]}"),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize("format_", ADVERSARIAL, ids=range(len(ADVERSARIAL)))
async def test_no_format_takes_longer_than_it_may(
    compiler: FormatCompiler, format_: pb.ResponseFormat
) -> None:
    await compiler.compile(pb.ResponseFormat(regex="a"), PATH)  # started
    started = time.monotonic()
    with contextlib.suppress(InvalidRequestError):
        await compiler.compile(format_, PATH)
    assert time.monotonic() - started < 20  # 3 s, on a machine that does nothing else


async def test_a_process_that_dies_at_its_start_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = asyncio.create_subprocess_exec
    dying = [[sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]] * 2

    async def start_badly(*command: str, **pipes: Any) -> asyncio.subprocess.Process:
        return await start(*(dying.pop() if dying else command), **pipes)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_badly)
    compiler = FormatCompiler()
    try:
        assert await compiler.compile(pb.ResponseFormat(regex="ab"), "f")
        assert not dying
    finally:
        await compiler.close()
