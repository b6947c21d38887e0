"""Several front processes behind one port (SO_REUSEPORT), and one that watches over them."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import signal
import threading
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from miao_queue.telemetry import logs
from miao_queue.telemetry.exposition import exposed
from miao_service import metrics
from miao_service.ports import reserved
from miao_service.server import Ready, serve
from miao_service.settings import ServiceSettings, parse_address

logger = logging.getLogger(__name__)

_RESTART_SECONDS = 1.0


class Fleet:
    """Starts the fronts, replaces those that die, and ends them together."""

    def __init__(self, settings: ServiceSettings, port: int) -> None:
        host, _ = parse_address(settings.listen)
        shown = f"[{host}]" if ":" in host else host
        self._settings = dataclasses.replace(
            settings,
            listen=f"{shown}:{port}",
            reuse_port=True,
            processes=1,
            ready_file="",
            metrics_listen="",
        )
        self._spawn: Any = multiprocessing.get_context("spawn")
        self._listening = self._spawn.Semaphore(0)
        self._asked_to_stop = threading.Event()
        self._processes: list[BaseProcess] = []

    def run(self, ready: Ready | None, port: int, count: int) -> None:
        """Run so many fronts until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        self._processes = [self._start() for _ in range(count)]
        for _ in range(count):
            while not self._listening.acquire(timeout=0.1):
                if self._asked_to_stop.is_set():
                    break
        if ready is not None and not self._asked_to_stop.is_set():
            ready(port)
        while self._processes:
            self._replace_the_dead()

    def stop(self) -> None:
        """Ask all fronts to drain."""
        self._asked_to_stop.set()
        for process in self._processes:
            process.terminate()

    def _replace_the_dead(self) -> None:
        wait([process.sentinel for process in self._processes], timeout=1.0)
        dead = [process for process in self._processes if process.exitcode is not None]
        for process in dead:
            self._processes.remove(process)
            metrics.forget_process(process.pid)
            if not self._asked_to_stop.is_set():
                logger.error("a front process ended with %s; another starts", process.exitcode)
                self._asked_to_stop.wait(_RESTART_SECONDS)
            if not self._asked_to_stop.is_set():
                self._processes.append(self._start())

    def _start(self) -> BaseProcess:
        process: BaseProcess = self._spawn.Process(
            target=_serve_one, args=(self._settings, self._listening)
        )
        process.start()
        return process


def serve_fleet(settings: ServiceSettings, ready: Ready | None = None) -> None:
    """Run `settings.processes` fronts that share the port."""
    with (
        metrics.shared_folder() as registry,
        exposed(settings.metrics_listen, registry) as address,
        reserved(settings.listen) as port,
    ):
        if address:
            logger.info("metrics are served at %s", address)
        Fleet(settings, port).run(ready, port, settings.processes)


def _serve_one(settings: ServiceSettings, listening: Any) -> None:
    logs.configure(settings.logs)
    serve(settings, lambda _: listening.release())
