"""Requests to the services whose code is not ours, and that are no requests."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    "path",
    [
        *("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"),
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_bytes_that_are_no_request_are_refused_and_leave_no_traceback(
    front: Any, caplog: Any, path: str
) -> None:
    call = front.channel.stream_stream(path)(iter([b"\xff\xff"]), timeout=10)
    assert (await call.code()).name == "INVALID_ARGUMENT"
    assert not caplog.records
