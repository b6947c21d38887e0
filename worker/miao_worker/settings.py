"""A worker's settings, read once at the entry point."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from miao_queue.protection import UNPROTECTED, Protection
from miao_queue.telemetry.logs import LogSettings
from miao_worker.engine.protocol import EngineSettings


def _worker_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker works.

    model_name: what callers name the model.
    lease_seconds: a worker that does not renew its claims for so long loses them.
    step_timeout_seconds: an engine that brings no step for so long is replaced.
    drain_seconds: at SIGTERM, how long running generations may still take here
        before they are handed over to other workers.
    adapters: the folders of adapters, by the names that callers use after the model's.
    adapter_folder: where more of them lie, each in a folder of its name; looked at again
        and again.
    max_crashes: a generation under which engines or workers died so often, the
        last time while it ran alone, ends with an error.
    tool_format: how the model writes calls: a name of `tool_formats`, "none", or
        "auto" for what its chat template teaches.
    protection: what guards prompts, outputs and jobs in Redis.
    metrics_listen: where Prometheus reads this worker's metrics; empty: nowhere.
    health_listen: where probes ask for this worker's health; empty: nowhere.
    traces_endpoint: the OTLP collector that is told of each phase; empty: nobody.
    """

    redis_url: str
    model_name: str
    engine: EngineSettings
    name: str = field(default_factory=_worker_name)
    lease_seconds: float = 3.0
    step_timeout_seconds: float = 60.0
    drain_seconds: float = 20.0
    max_crashes: int = 3
    adapters: Mapping[str, Path] = field(default_factory=dict)
    adapter_folder: Path | None = None
    tool_format: str = "auto"
    metrics_listen: str = ""
    health_listen: str = ""
    protection: Protection = UNPROTECTED
    traces_endpoint: str = ""
    logs: LogSettings = field(default_factory=LogSettings)

    @property
    def lease_ms(self) -> int:
        return int(self.lease_seconds * 1000)
