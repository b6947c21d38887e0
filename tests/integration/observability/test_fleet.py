"""The fleet, the bill and the audit of a real stack, as the command line shows them."""

from __future__ import annotations

import json
import time

import pytest

from miao_client import Client
from miao_client.cli import main

from .conftest import Observed


def run(observed: Observed, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--target", observed.address]) == 0
    return capsys.readouterr().out


def test_top_shows_what_a_worker_does_while_it_does_it(
    observed: Observed, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = client.generate("a", max_tokens=400, ignore_eos=True)
    chunks = iter(stream)
    next(chunks)
    deadline = time.monotonic() + 10
    while not (running := sum(each.num_running for each in client.fleet().workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert running == 1
    for _ in chunks:
        pass
    (worker,) = client.fleet().workers
    assert worker.model == "tiny"
    assert worker.max_running > 0
    assert [model.num_workers for model in client.fleet().models] == [1]
    text = run(observed, capsys, "top", "--once")
    assert "1 workers" in text
    assert worker.name in text
    seen = json.loads(run(observed, capsys, "top", "--json"))
    assert seen["workers"][0]["name"] == worker.name


def test_usage_is_what_the_callers_were_told(
    observed: Observed, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    before = client.usage_records(page_size=1000)
    results = [client.generate("a b c", max_tokens=n, ignore_eos=True).result() for n in (3, 4)]
    page = client.usage_records(page_token=before.next_page_token)
    told = [
        (each.generation_id, each.usage.prompt_tokens, each.usage.output_tokens)
        for each in results
        if each.usage is not None
    ]
    assert told == [
        (each.generation_id, each.prompt_tokens, each.output_tokens) for each in page.records
    ]
    everything = client.usage_records(page_size=1000).records
    (total,) = client.usage()
    assert total.num_requests == len(everything)
    assert total.output_tokens == sum(each.output_tokens for each in everything)
    assert f"{total.output_tokens:,}" in run(observed, capsys, "usage", "--all")
    lines = run(observed, capsys, "usage", "--records").splitlines()
    assert len(lines) == len(everything) + 1
    after = json.loads(lines[-1])["next"]
    rest = run(observed, capsys, "usage", "--records", "--after", after).splitlines()
    assert [json.loads(line) for line in rest] == [{"next": after}]


def test_the_audit_shows_the_calls(
    observed: Observed, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    result = client.generate("a", max_tokens=1).result()
    text = run(observed, capsys, "audit", "--limit", "5")
    line = next(line for line in text.splitlines() if result.generation_id in line)
    assert "Generate" in line
    assert "OK" in line
