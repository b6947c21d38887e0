"""A short run of a cluster, as part of the tests; `make cluster` is the whole one.

It runs in a program of its own, in a network namespace of its own: as root, or as anybody where
user namespaces are allowed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .failures import ClusterKind
from .network import in_own_namespace

KINDS = (
    ClusterKind.WORKERS_ROLLED,
    ClusterKind.FRONTS_ROLLED,
    ClusterKind.WORKER_CUT,
    ClusterKind.FRONT_LOST,
    ClusterKind.REDIS_CUT_SHORTLY,
)
# Of a stream, beside what two busy cores cost: a caller looks every five seconds whether its front
# is there, and waits three for the answer; a lease is three seconds.
MOST_SECONDS = {ClusterKind.FRONT_LOST: 14.0, ClusterKind.WORKER_CUT: 9.0}


def test_updates_cuts_and_losses_of_hosts_break_no_promise(tmp_path: Path) -> None:
    output = tmp_path / "table.json"
    options = ["--seed", "7", "--callers", "6", "--specs", "8", "--tokens", "300", "--pause", "1"]
    options += ["--fork", "--inside", "--folder", str(tmp_path), "--output", str(output)]
    command = [sys.executable, "-m", "tests.cluster", *options, "--kinds", *KINDS]
    try:
        command = in_own_namespace(command)
    except OSError as error:
        pytest.skip(str(error))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["name"]: row for row in json.loads(output.read_text("utf-8"))["rows"]}
    assert rows.keys() == set(KINDS)
    for row in rows.values():
        assert row["streams"], f"nobody was there: {done.stdout}"
    for kind, most in MOST_SECONDS.items():
        assert rows[kind]["gaps"]["longest"] < most, done.stdout
