"""Debian's Prometheus, where it is installed: it scrapes a real front and a real worker."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import pytest
import yaml

from miao_client import Client, MiaoError

from .conftest import Observed

MONITORING = Path(__file__).parents[3] / "deploy/monitoring"

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not here")


@pytest.fixture
def ask(observed: Observed, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Runs Prometheus on the example's rules, and asks its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shutil.copy(MONITORING / "rules.yml", tmp_path)
    text = (MONITORING / "prometheus.yml").read_text().replace("15s", "1s")
    for part, example in (("front", "127.0.0.1:9464"), ("worker", "127.0.0.1:9465")):
        text = text.replace(example, urlsplit(observed.metrics_address(part)).netloc)
    (tmp_path / "prometheus.yml").write_text(text)
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml"]
    command += [f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def get(path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{path}") as answer:
            return json.load(answer)["data"]

    yield get
    process.terminate()
    process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            if condition():
                return
        except URLError:
            pass  # it has not started yet
        assert time.monotonic() < deadline
        time.sleep(0.1)


def panels() -> dict[str, str]:
    """The dashboard's questions, and the panel that asks each."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return {
        target["expr"].replace("$__rate_interval", "1m").replace("$model", ".*"): panel["title"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }


def test_it_scrapes_both_sides_and_every_rule_and_panel_comes_to_something(
    ask: Callable[[str], Any], client: Client
) -> None:
    def values(expression: str) -> list[float]:
        result = ask(f"query?{urlencode({'query': expression})}")["result"]
        return [float(series["value"][1]) for series in result]

    def serve_some() -> None:
        client.generate("the quick brown fox", max_tokens=20, ignore_eos=True).result()
        with pytest.raises(MiaoError):
            client.generate("the quick brown fox", model="nowhere").result()

    until(lambda: values("count(up == 1)") == [2.0])
    written = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    rules = [rule for group in written for rule in group["rules"]]
    missing = panels() | {rule["record"]: "a rule" for rule in rules if "record" in rule}
    assert len(missing) > 40

    def have_come_to_something() -> bool:
        serve_some()  # a rate needs two looks
        for expression in list(missing):
            found = values(expression)
            # Nothing is proposed here; so the share of it that is right is no number.
            is_no_number = all(map(math.isnan, found)) and "spec_decode" not in expression
            if found and not is_no_number:
                del missing[expression]
        return not missing

    with contextlib.suppress(AssertionError):
        until(have_come_to_something)
    assert missing == {}
    known = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert len(known) == len(rules) > 10
    assert [rule.get("lastError") for rule in known if rule["health"] == "err"] == []
