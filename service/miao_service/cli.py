"""`miao service`: run a front from the command line."""

from __future__ import annotations

import os
import sys
from functools import partial

from miao_queue.connection import RedisUrlError, check_url
from miao_queue.telemetry import logs, traces
from miao_queue.telemetry.exposition import MetricsListenError
from miao_queue.telemetry.traces import TracesError
from miao_service.auth.access import Access
from miao_service.fleet import serve_fleet
from miao_service.policies import PoliciesError, PolicyFile
from miao_service.ports import BindError
from miao_service.server import announce, serve
from miao_service.settings import ServiceSettings, SettingsError


def main(argv: list[str]) -> int:
    """Run until a signal; returns the exit status."""
    try:
        settings = ServiceSettings.read(argv, os.environ)
        check_url(settings.redis_url)
        Access(settings)  # says what is wrong before anything starts
        PolicyFile(settings.limits_file)  # each front reads it again
        traces.check(settings.traces_endpoint)
    except (SettingsError, RedisUrlError, PoliciesError, TracesError) as error:
        return _complain(error, 2)
    logs.configure(settings.logs)
    run = serve if settings.processes == 1 else serve_fleet
    try:
        run(settings, partial(announce, settings))
    except (BindError, MetricsListenError) as error:
        return _complain(error, 1)
    return 0


def _complain(error: Exception, status: int) -> int:
    print(f"miao service: {error}", file=sys.stderr)
    return status
