"""`miao bench` against a real server whose answers are scripted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any
from xml.etree import ElementTree

import grpc
import pytest
from click.testing import Result
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from typer.testing import CliRunner

from miao.v1 import generation_pb2 as pb
from miao_client.cli import app

Bench = Callable[..., Result]
MODEL = {"name": "m", "max_model_length": 512, "vocab_size": 1000, "num_workers": 2}
DISTRIBUTION = {"mean", "min", "p50", "p90", "p99", "max"}


@pytest.fixture
def bench(service: Any, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run the command in an empty folder, for a model that is there."""
    monkeypatch.chdir(tmp_path)
    service.script("GetModel", {"model": MODEL})

    def run(*words: str) -> Result:
        return CliRunner().invoke(app.app, ["bench", *words], env={"MIAO_TARGET": target})

    return run


def figures() -> dict[str, Any]:
    """What the command has written."""
    found: dict[str, Any] = json.loads(Path("out.json").read_text())
    return found


def test_a_closed_loop_is_swept_and_reported(service: Any, bench: Bench, target: str) -> None:
    service.script("Generate", *[service.answer("a", "b", "c")] * 16)
    files = "--json out.json --records --plot plot.svg"
    load = "-c 1,3 --requests 6 --warmup 2 --input-tokens 9 --output-tokens 3 --seed 5"
    slo = "--slo-ttft 60 --slo-itl 60 --slo-tpot 60 --slo-e2e 60 --ignore-eos --temperature 0"
    result = bench(*f"{load} {slo} {files}".split())
    assert result.exit_code == 0, result.stderr

    report = figures()
    assert (report["format"], report["targets"], report["interrupted"]) == (1, [target], False)
    assert report["model"]["name"] == "m"
    assert (report["settings"]["seed"], report["settings"]["input_tokens"]) == (5, 9)
    loads = [point["load"] for point in report["points"]]
    assert loads == [{"kind": "closed", "concurrency": number} for number in (1, 3)]
    for point in report["points"]:
        assert (point["completed"], point["failed"], point["unfinished"]) == (6, 0, 0)
        assert (point["output_tokens"], point["input_tokens"]) == (18, 18)  # as the service says
        assert point["good"] == 6
        assert point["goodput"] == point["requests_per_second"] == 6 / point["duration"]
        for name in ("ttft", "itl", "tpot", "e2e", "send_delay"):
            assert point[name].keys() == DISTRIBUTION
        assert [len(record["itl"]) for record in point["records"]] == [2] * 6
        assert all(0 < each["ttft"] <= each["e2e"] for each in point["records"])

    specs = [request.spec for request in service.requests("Generate")]
    assert len(specs) == 16  # the warming too
    assert {len(spec.token_ids.ids) for spec in specs} == {9}
    assert {spec.max_tokens for spec in specs} == {3}
    assert all(spec.ignore_eos and spec.sampling.temperature == 0 for spec in specs)
    assert len({spec.sampling.seed for spec in specs}) == 16

    assert "concurrency 3: 6 completed, 0 failed in" in result.stdout
    assert "100% within ttft 60 s" in result.stdout
    assert result.stdout.splitlines()[-3].split()[:2] == ["LOAD", "REQUESTS/S"]
    assert ElementTree.parse("plot.svg").getroot().tag.endswith("svg")


def test_an_open_loop_does_not_wait_for_answers(service: Any, bench: Bench) -> None:
    together = Event()

    def answer(request: Any) -> Any:
        # Each of the first three is answered only when all three are there.
        if len(service.requests("Generate")) == 3:
            together.set()
        return [service.accepted(), wait, service.tokens(1, "a"), service.finished(1)]

    def wait() -> None:
        assert together.wait(20)

    service.script("Generate", *[answer] * 3)
    result = bench("--rate", "200", "--requests", "3", "--json", "out.json", "--plot", "p.png")
    assert result.exit_code == 0, result.stderr
    (point,) = figures()["points"]
    assert point["load"] == {"kind": "poisson", "rate": 200.0}
    assert (point["completed"], point["itl"], point["tpot"]) == (3, None, None)
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")


def test_a_trace_is_sent_as_it_says(service: Any, bench: Bench) -> None:
    lines = ['{"at": 0, "input_tokens": 4}', '{"at": 0.3, "prompt": "hi", "output_tokens": 2}']
    Path("trace.jsonl").write_text("\n".join(lines))
    service.script("Generate", *[service.answer("a", "b")] * 2)
    result = bench("--arrivals", "trace.jsonl", "--json", "out.json", "--records")
    assert result.exit_code == 0, result.stderr
    (point,) = figures()["points"]
    assert point["load"] == {"kind": "trace", "name": "trace.jsonl", "arrivals": 2}
    first, second = sorted(point["records"], key=lambda record: record["intended"])
    assert second["intended"] - first["intended"] == pytest.approx(0.3)
    assert second["sent"] >= second["intended"]
    assert second["e2e"] == pytest.approx(second["ended"] - second["intended"])
    by_prompt = {request.spec.prompt: request.spec for request in service.requests("Generate")}
    assert len(by_prompt[""].token_ids.ids) == 4
    assert by_prompt["hi"].max_tokens == 2


def test_failures_are_counted_by_kind_and_end_nothing(service: Any, bench: Bench) -> None:
    full = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "The queue is full.")
    error = pb.GenerationError(code=grpc.StatusCode.INTERNAL.value[0], message="broken")
    failed = service.finished(1, pb.FINISH_REASON_ERROR, error=error)
    broken = [service.accepted(), service.tokens(1, "a"), failed]
    service.script("Generate", full, service.answer("a"), full, broken)
    result = bench("-c", "1", "--requests", "4", "--json", "out.json", "--slo-e2e", "60")
    assert result.exit_code == 0, result.stderr
    (point,) = figures()["points"]
    assert (point["completed"], point["failed"], point["good"]) == (1, 3, 1)
    assert point["failures"] == {"RESOURCE_EXHAUSTED": 2, "INTERNAL": 1}
    assert point["failure_messages"]["INTERNAL"] == "broken"
    assert "  2 RESOURCE_EXHAUSTED: The queue is full.\n" in result.stdout
    assert "(25% within e2e 60 s)" in result.stdout


def test_all_failed_is_status_1(service: Any, bench: Bench) -> None:
    full = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "The queue is full.")
    service.script("Generate", *[full] * 4)
    result = bench("-c", "1,2", "--requests", "2", "--plot", "p.png", "--json", "out.json")
    assert result.exit_code == 1
    assert [point["ttft"] for point in figures()["points"]] == [None, None]
    assert not Path("p.png").exists()


def test_a_duration_ends_a_closed_loop(service: Any, bench: Bench) -> None:
    service.script("Generate", *[lambda request: service.answer("a")] * 10_000)
    result = bench("-c", "2", "--duration", "0.5", "--json", "out.json")
    assert result.exit_code == 0, result.stderr
    (point,) = figures()["points"]
    assert point["completed"] == len(service.requests("Generate")) > 0
    assert point["failed"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "Say the load: exactly one of --concurrency, --rate or --arrivals."),
        ("-c 1,x", "--concurrency must be whole numbers with commas between, not '1,x'."),
        ("--rate 1,", "--rate must be numbers with commas between, not '1,'."),
        ("-c 1 --records", "--records needs --json FILE, where they are written."),
        ("-c 1 --input-tokens 500", "--input-tokens and --output-tokens must be at most 512"),
        ("--arrivals no.jsonl", "no.jsonl cannot be read"),
    ],
)
def test_a_wrong_argument_is_one_line_and_status_2(bench: Bench, words: str, message: str) -> None:
    result = bench(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"miao: {message}")
    assert result.stderr.count("\n") == 1


def test_no_service_is_one_line_and_status_1(service: Any) -> None:
    words = ["bench", "-c", "1", "--target", service.start()]
    result = CliRunner().invoke(app.app, words)
    assert result.exit_code == 1
    assert result.stderr == "miao: GetModel is not scripted\n"


def test_ctrl_c_reports_what_was_measured_and_cancels_what_runs(
    service: Any, target: str, tmp_path: Path
) -> None:
    held = Event()
    service.script("GetModel", {"model": MODEL})
    streams = [service.accepted(), service.tokens(1, "a"), held.set, service.hold]
    service.script("Generate", service.answer("a", "b"), streams)
    # The signal may come before the id: the SDK then asks for it by the request's key.
    service.script("CreateGeneration", {"generation": service.generation()})
    service.script("CancelGeneration", {"generation": service.generation()})
    words = ["bench", "-c", "1,2", "--requests", "5", "--json", str(tmp_path / "out.json")]
    process = subprocess.Popen(
        [sys.executable, "-m", "miao_client.cli", *words, "--target", target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert held.wait(30)
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (130, b"")
    assert b"concurrency 1: 1 completed, 0 failed, 1 cancelled in" in printed
    assert len(service.requests("CancelGeneration")) == 1
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["interrupted"]
    (point,) = report["points"]
    assert (point["completed"], point["unfinished"]) == (1, 1)


def test_a_refused_request_comes_back_when_the_service_says_and_is_counted(
    service: Any, bench: Bench
) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=50_000_000))
    full = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "The queue is full.", retry)
    service.script("Generate", full, full, service.answer("a"), service.answer("b"))
    result = bench("-c", "1", "--requests", "2", "--wait-when-busy", "30", "--json", "out.json")
    assert result.exit_code == 0, result.stderr
    (point,) = figures()["points"]
    assert (point["completed"], point["failed"]) == (2, 0)
    assert (point["refusals"], point["came_back"]) == (2, 1)
    assert point["e2e"]["max"] >= 0.1  # what it waited counts
    assert "2 refusals, 1 completed after one" in result.stdout


def test_a_request_that_would_come_back_too_late_has_failed(service: Any, bench: Bench) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=60))
    soon = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "The queue is full.")
    late = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "The queue is full.", retry)
    service.script("Generate", soon, late, service.answer("a"))
    result = bench("-c", "1", "--requests", "2", "--wait-when-busy", "30", "--json", "out.json")
    assert result.exit_code == 0, result.stderr
    (point,) = figures()["points"]
    assert (point["completed"], point["failures"]) == (1, {"RESOURCE_EXHAUSTED": 1})
    assert (point["refusals"], point["came_back"]) == (1, 0)
