"""A primary, its replica and three sentinels: real servers, as production has them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from .conftest import free_port, redis_program

NAME = "main"


class SentinelFleet:
    """Sentinels that choose the other server within a second or two of silence."""

    def __init__(self, folder: Path, *options: str) -> None:
        """`options`: of both servers."""
        self._folder = folder
        self.ports = [free_port(), free_port()]  # the first begins as the primary
        self._sentinels = [free_port() for _ in range(3)]
        self._options = options
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self._sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    def start(self) -> None:
        primary, replica = self.ports
        self._start(primary)
        self._start(replica, "--replicaof", "127.0.0.1", str(primary))
        self._until(lambda: self.info(replica)["master_link_status"] == "up")
        for port in self._sentinels:
            self._start_sentinel(port, primary)
        self._until(
            lambda: all(
                state["num-slaves"] == 1 and state["num-other-sentinels"] == 2
                for state in map(self._watched, self._sentinels)
            )
        )

    def info(self, port: int) -> Any:
        with Redis(port=port, retry=None) as client:
            return client.info("replication")

    def primary(self) -> int:
        """The port of what the first sentinel takes for the primary."""
        return int(self._watched(self._sentinels[0])["port"])

    def kill(self) -> int:
        """Kill the primary; its port."""
        dead = self.primary()
        self.processes[dead].kill()
        self.processes[dead].wait()
        return dead

    @contextmanager
    def lagging(self) -> Iterator[None]:
        """What the primary is told meanwhile, the replica does not get."""
        primary = self.primary()
        (replica,) = (port for port in self.ports if port != primary)
        self.processes[replica].send_signal(signal.SIGSTOP)
        # What is on its way to it is lost with the connection.
        with Redis(port=primary) as client:
            client.client_kill_filter(_type="replica")
        try:
            yield
        finally:
            self.processes[replica].send_signal(signal.SIGCONT)

    def await_failover(self, before: int) -> None:
        self._until(lambda: self.primary() != before)
        self._until(lambda: self.info(self.primary())["role"] == "master")

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _watched(self, port: int) -> Any:
        with Redis(port=port, retry=None) as client:
            return client.sentinel_master(NAME)

    def _start(self, port: int, *options: str) -> None:
        folder = self._folder / str(port)
        folder.mkdir(parents=True, exist_ok=True)
        words = ["--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "yes"]
        words += ["--repl-diskless-sync-delay", "0", *self._options, *options]
        self._spawn(port, words)

    def _start_sentinel(self, port: int, primary: int) -> None:
        file = self._folder / f"sentinel-{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self._folder}\n"
            f"sentinel monitor {NAME} 127.0.0.1 {primary} 2\n"
            f"sentinel down-after-milliseconds {NAME} 500\n"
            f"sentinel failover-timeout {NAME} 2000\n"
        )
        self._spawn(port, [str(file), "--sentinel"])

    def _spawn(self, port: int, words: list[str]) -> None:
        command = [redis_program(), *words]
        command += [] if "--sentinel" in words else ["--bind", "127.0.0.1"]
        self.processes[port] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        with Redis(port=port, retry=None) as client:
            self._until(client.ping)

    def _until(self, condition: Any, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except RedisError:
                pass
            assert time.monotonic() < deadline, condition
            time.sleep(0.02)


@contextmanager
def sentinel_fleet(folder: Path, *options: str) -> Iterator[SentinelFleet]:
    fleet = SentinelFleet(folder, *options)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()
