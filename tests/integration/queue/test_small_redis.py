"""The Valkey of deploy/kubernetes, as its files configure it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, exceptions

from miao_queue.connection import connect, wait_until_ready
from tests.conftest import free_port, knows_the_users, redis_program

FOLDER = Path(__file__).parents[3] / "deploy/kubernetes"


@pytest.fixture
def small_redis(tmp_path: Path) -> Iterator[str]:
    """Its host and port."""
    if not knows_the_users():
        pytest.skip("this Redis is older than 7.2")
    port = free_port()
    text = (FOLDER / "components/redis/valkey.conf").read_text("utf-8")
    here = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(tmp_path),
        "aclfile": str(FOLDER / "overlays/laptop/users.acl"),
    }
    for name, value in here.items():
        text, count = re.subn(rf"^{name} .*$", f"{name} {value}", text, flags=re.MULTILINE)
        assert count == 1, name
    (tmp_path / "valkey.conf").write_text(text, "utf-8")
    command = [redis_program(), str(tmp_path / "valkey.conf")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    process.terminate()
    assert process.wait(10) == 0


def test_the_small_redis_keeps_what_it_is_given_and_lets_strangers_ping_alone(
    small_redis: str,
) -> None:
    with connect(f"redis://miao-worker:laptop@{small_redis}/0") as worker:
        wait_until_ready(worker, 10)
        worker.set("miao:gen:x", "y")
        assert worker.info("persistence")["aof_enabled"] == 1
        assert worker.info("memory")["maxmemory_policy"] == "noeviction"
        with pytest.raises(exceptions.NoPermissionError):
            worker.flushall()
    host, _, port = small_redis.partition(":")
    with Redis(host, int(port)) as stranger:
        assert stranger.ping()  # as the probes do
        with pytest.raises(exceptions.NoPermissionError):
            stranger.get("miao:gen:x")
