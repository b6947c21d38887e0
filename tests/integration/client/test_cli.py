"""The miao command against a real server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from click.testing import Result
from google.rpc import error_details_pb2
from typer.testing import CliRunner

from miao.v1 import generation_pb2 as pb
from miao_client import __version__
from miao_client.cli import app, main

Miao = Callable[..., Result]
MODEL = {
    "name": "miao-tiny",
    "architecture": "LlamaForCausalLM",
    "num_parameters": 4_940_000,
    "dtype": "float32",
    "max_model_length": 512,
    "num_workers": 2,
    "num_queued": 3,
}


@pytest.fixture
def miao(target: str) -> Miao:
    """Run the command; all but its words is set up for the fake service."""

    def run(*words: str, **options: Any) -> Result:
        return CliRunner().invoke(app.app, words, env={"MIAO_TARGET": target}, **options)

    return run


def test_generate_prints_the_answer(service: Any, miao: Miao) -> None:
    service.script("Generate", service.answer("没有", "信号", "？"))
    result = miao("generate", "为什么")
    assert (result.exit_code, result.stdout) == (0, "没有信号？\n")
    assert service.requests("Generate")[0].spec.prompt == "为什么"


def test_generate_sends_its_options(service: Any, miao: Miao) -> None:
    service.script("Generate", service.answer("a"))
    options = "-m m --max-tokens 0 --temperature 0 --top-p 0.5 --top-k 0 --min-p 0 --seed 0"
    more = "--stop x --stop y --bad-word v --bad-word w --priority high --timeout 9"
    more += " --truncation keep_end --max-prompt-tokens 7"
    assert miao("generate", "hello", *options.split(), *more.split()).exit_code == 0
    spec = service.requests("Generate")[0].spec
    expected = pb.GenerationSpec(
        model="m",
        prompt="hello",
        sampling=pb.Sampling(temperature=0, top_p=0.5, top_k=0, min_p=0, seed=0),
        max_tokens=0,
        stop=["x", "y"],
        bad_words=["v", "w"],
        truncation=pb.TRUNCATION_KEEP_END,
        max_prompt_tokens=7,
        priority=pb.PRIORITY_HIGH,
        on_disconnect=pb.ON_DISCONNECT_CONTINUE,
    )
    expected.timeout.FromSeconds(9)
    assert spec == expected


def test_generate_prints_json(service: Any, miao: Miao) -> None:
    service.script("Generate", service.answer("你", "好"))
    result = miao("generate", "hello", "--json")
    assert "你好" in result.stdout
    printed = json.loads(result.stdout)
    assert (printed["text"], printed["finish_reason"]) == ("你好", "stop")
    assert printed["usage"]["output_tokens"] == 2


def test_generate_reads_stdin_and_asks_through_the_chat_template(service: Any, miao: Miao) -> None:
    service.script("Generate", service.answer("a"))
    miao("generate", "-", "--system", "be brief", input="hello")
    messages = service.requests("Generate")[0].spec.chat.messages
    assert [(message.role, message.content) for message in messages] == [
        (pb.ROLE_SYSTEM, "be brief"),
        (pb.ROLE_USER, "hello"),
    ]


def test_an_error_is_one_line_and_status_1(service: Any, miao: Miao) -> None:
    wrong = error_details_pb2.BadRequest()
    wrong.field_violations.add(field="spec.max_tokens", description="must be at least 1")
    refusal = service.Refuse(grpc.StatusCode.INVALID_ARGUMENT, "The request is invalid.", wrong)
    service.script("Generate", refusal)
    result = miao("generate", "hello")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == ("miao: The request is invalid. spec.max_tokens: must be at least 1\n")


def test_a_wrong_argument_is_status_2(miao: Miao) -> None:
    assert miao("generate").exit_code == 2
    assert miao("generate", "hello", "--top-k", "many").exit_code == 2


def test_chat_remembers_what_was_said(service: Any, miao: Miao) -> None:
    refusal = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
    service.script(
        "Generate", service.answer("你好"), refusal, service.answer("b"), service.answer("c")
    )
    result = miao("chat", input="hi\nlost\nagain\n\n/help\n/clear\nnew\n/exit\nunread\n")
    assert result.exit_code == 0
    assert "你好\n" in result.stdout
    assert "busy" in result.stderr
    said = [
        [message.content for message in request.spec.chat.messages]
        for request in service.requests("Generate")
    ]
    assert said == [["hi"], ["hi", "你好", "lost"], ["hi", "你好", "again"], ["new"]]


def test_models_are_shown(service: Any, miao: Miao) -> None:
    service.script("ListModels", {"models": [MODEL]}, {"models": []}, {"models": [MODEL]})
    table = miao("models").stdout
    assert table.splitlines()[1].split() == [
        *["miao-tiny", "LlamaForCausalLM", "4.94M", "float32", "512", "no", "2", "3"]
    ]
    assert miao("models").stdout == "No worker serves a model.\n"
    assert json.loads(miao("models", "--json").stdout)[0]["num_parameters"] == 4_940_000


def test_status_shows_fronts_models_and_generations(service: Any, miao: Miao, target: str) -> None:
    finished = service.generation(
        pb.GENERATION_STATE_FINISHED, finished=pb.Finished(reason=pb.FINISH_REASON_STOP)
    )
    service.script("ListModels", {"models": [MODEL]})
    service.script("ListGenerations", {"generations": [service.generation(), finished, finished]})
    result = miao("status", "--target", f"{target},127.0.0.1:1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split() == [target, "serving"]
    assert lines[2].split() == ["127.0.0.1:1", "unreachable"]
    assert "miao-tiny" in result.stdout
    assert lines[-1] == "Recent generations: 1 running, 2 finished (stop)"


def test_status_without_a_service_is_status_1(miao: Miao) -> None:
    result = miao("status", "--target", "127.0.0.1:1")
    assert (result.exit_code, result.stderr) == (1, "miao: No service answers at 127.0.0.1:1.\n")


def test_tokenize_follow_cancel_and_list(service: Any, miao: Miao) -> None:
    service.script(
        "Tokenize", {"token_ids": [5, 6], "tokens": ["为", "什么"], "max_model_length": 512}
    )
    service.script("FollowGeneration", [service.tokens(3, "x"), service.finished(3)])
    service.script("CancelGeneration", {"generation": service.generation()})
    service.script("ListGenerations", {"generations": [service.generation(), service.generation()]})
    assert miao("tokenize", "为什么").stdout.splitlines()[-1] == "2 of at most 512 tokens"
    assert miao("follow", "gen-1", "--after", "2").stdout == "x\n"
    assert miao("cancel", "gen-1").stdout == "gen-1 running\n"
    assert miao("list", "--limit", "1").stdout.count("gen-1") == 1


def test_the_version(miao: Miao) -> None:
    assert miao("--version").stdout == f"miao {__version__}\n"


def test_servers_are_listed_and_get_all_words(miao: Miao, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[list[str]] = []
    module = types.ModuleType("miao_service.cli")
    module.main = lambda argv: got.append(argv) or 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "miao_service.cli", module)
    words = ["--help", "--port", "1", "-x", "name", "--flag=2"]
    assert miao("service", *words).exit_code == 3
    assert got == [words]
    listed = miao("--help").stdout
    assert all(name in listed for name in ("up", "service", "worker"))


def test_a_server_without_its_extra_says_which(miao: Miao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "miao_worker.cli", None)
    result = miao("worker")
    assert result.exit_code == 1
    assert "pip install 'miao[worker]'" in result.stderr


def test_main_returns_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["no-such-command"]) == 2
    assert "no-such-command" in capsys.readouterr().err


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "miao_client.cli", *words]


def test_a_pipe_gets_plain_utf8_in_any_locale(service: Any, target: str) -> None:
    service.script("Generate", service.answer("为什么", "😀"))
    environ = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "MIAO_TARGET": target}
    done = subprocess.run(
        command("generate", "hello"), env=environ, capture_output=True, check=True, timeout=30
    )
    assert done.stdout.decode() == "为什么😀\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_generation(
    service: Any, target: str, number: signal.Signals, status: int
) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    process = subprocess.Popen(
        command("generate", "hello", "--target", target),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"a"  # it comes at once, not at the end
        process.send_signal(number)
        _, complaint = process.communicate(timeout=20)
    assert (process.returncode, complaint) == (status, b"")
    assert len(service.requests("CancelGeneration")) == 1


def test_a_signal_ends_a_talk_in_mid_answer(service: Any, target: str) -> None:
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("CancelGeneration", {"generation": service.generation()})
    process = subprocess.Popen(
        command("chat", "--target", target), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        assert process.stdout.read(1) == b"a"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert len(service.requests("CancelGeneration")) == 1


def test_a_front_that_stops_is_left_without_a_word(service: Any) -> None:
    targets = ",".join([service.start(), service.start()])
    service.script("Generate", [service.accepted(), service.tokens(1, "a"), service.hold])
    service.script("FollowGeneration", [service.tokens(2, "b"), service.finished(2)])
    process = subprocess.Popen(
        command("generate", "hello", "--target", targets),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"a"
        service.kill(service.targets[0])
        answer, complaint = process.communicate(timeout=20)
    assert (process.returncode, answer, complaint) == (0, b"b\n", b"")
