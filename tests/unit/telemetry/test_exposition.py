"""Where Prometheus reads: what may be named, and what is served there."""

from __future__ import annotations

import socket
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from miao_queue.telemetry.exposition import MetricsListenError, exposed, parse_listen
from miao_queue.telemetry.histogram import BatchHistogram
from miao_queue.telemetry.tenants import TenantLabels


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_a_port_alone_is_on_loopback(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", [":9464", "host", "127.0.0.1:", "70000", "１"])
def test_what_is_no_address_is_said(text: str) -> None:
    with pytest.raises(MetricsListenError, match="HOST:PORT"):
        parse_listen(text)


def test_metrics_are_served_while_asked_for() -> None:
    registry = CollectorRegistry()
    Counter("miao_things", "Things.", registry=registry).inc(3)
    with exposed("0", registry) as address:
        assert address.startswith("http://127.0.0.1:")
        with urlopen(address) as answer:
            assert "miao_things_total 3.0" in answer.read().decode()
    with pytest.raises(URLError):
        urlopen(address)


def test_nothing_is_served_where_nothing_is_named() -> None:
    with exposed("", CollectorRegistry()) as address:
        assert address == ""


def test_a_taken_port_is_said_in_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(MetricsListenError, match=f"on {port}: Address already in use"),
            exposed(str(port), CollectorRegistry()),
        ):
            pass


def test_a_batch_histogram_counts_as_the_usual_one_does() -> None:
    registry = CollectorRegistry()
    ours = BatchHistogram("miao_waits_seconds", "Waits.", "model_name", (0.1, 1.0), registry)
    assert next(iter(ours.collect())).samples == []
    ours.observe("m", 0.1, 3)  # a bound belongs to its bucket
    ours.observe("m", 0.5)
    ours.observe("m", 7.0, 2)

    def bucket(bound: str) -> float | None:
        labels = {"model_name": "m", "le": bound}
        return registry.get_sample_value("miao_waits_seconds_bucket", labels)

    assert [bucket(bound) for bound in ("0.1", "1.0", "+Inf")] == [3, 4, 6]
    total = registry.get_sample_value("miao_waits_seconds_sum", {"model_name": "m"})
    assert total == pytest.approx(0.3 + 0.5 + 14)
    with exposed("0", registry) as address, urlopen(address) as answer:
        (family,) = text_string_to_metric_families(answer.read().decode())
    assert (family.name, family.type) == ("miao_waits_seconds", "histogram")


def test_tenants_beyond_the_limit_share_a_label() -> None:
    labels = TenantLabels(limit=2)
    assert [labels.of(name) for name in ("a", "b", "c", "d", "a")] == [
        *("a", "b", "other", "other", "a"),
    ]
