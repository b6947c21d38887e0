"""From the SDK through front, queue, worker and engine, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from miao_client import (
    AsyncClient,
    Client,
    FinishReason,
    GenerationCancelledError,
    InvalidRequestError,
)
from miao_worker.stack import Stack

from .conftest import WORKER_OPTIONS

PROMPT = "the quick brown fox"


def test_many_callers_get_what_transformers_would_say(
    client: Client, expected: Callable[[list[int], int], list[int]], tiny_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    prompts = [f"{PROMPT} {i} 春天" for i in range(12)]

    def call(prompt: str) -> tuple[str, list[int]]:
        stream = client.generate(prompt, max_tokens=25, temperature=0, ignore_eos=True)
        result = stream.result()
        assert result.finish_reason is FinishReason.LENGTH
        return result.text, list(result.token_ids)

    with ThreadPoolExecutor(len(prompts)) as pool:
        results = list(pool.map(call, prompts))
    for prompt, (text, token_ids) in zip(prompts, results, strict=True):
        assert token_ids == expected(tokenizer.encode(prompt), 25)
        assert text == tokenizer.decode(token_ids, skip_special_tokens=True)


def test_a_chat_is_rendered_with_the_models_template(client: Client, tiny_model: Path) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert list(client.tokenize(messages).token_ids) == rendered
    result = client.generate(messages, max_tokens=3, seed=4).result()
    assert result.usage is not None
    assert result.usage.prompt_tokens == len(rendered)


async def test_the_asynchronous_client_streams_and_follows(stack: Stack) -> None:
    async with AsyncClient(stack.address) as client:
        stream = client.generate(PROMPT, max_tokens=20, seed=1, temperature=1, ignore_eos=True)
        text = "".join([chunk.text async for chunk in stream])
        result = await stream.result()
        assert text == result.text
        assert result.generation_id is not None
        again = client.follow(result.generation_id, after=5)
        assert (await again.result()).token_ids == result.token_ids[5:]


def test_the_same_seed_says_the_same_alone_and_among_others(client: Client) -> None:
    def call(seed: int) -> tuple[int, ...]:
        return client.generate(PROMPT, max_tokens=30, temperature=1, seed=seed).result().token_ids

    alone = [call(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(4))) == alone
    assert len(set(alone)) == 4


def test_create_get_list_and_cancel(client: Client) -> None:
    created = client.create(PROMPT, max_tokens=480, ignore_eos=True)
    assert client.cancel(created.generation_id).generation_id == created.generation_id
    with pytest.raises(GenerationCancelledError) as cancelled:  # not by this stream itself
        client.follow(created.generation_id).result()
    result = cancelled.value.result
    assert result is not None
    got = client.get(created.generation_id, include_output=True)
    assert got.output is not None
    assert got.output.token_ids == result.token_ids
    assert created.generation_id in [g.generation_id for g in client.list()]


def test_a_request_beyond_the_context_is_refused_with_the_limit(client: Client) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.generate([1] * 500, max_tokens=100).result()
    (violation,) = refused.value.violations
    assert violation.field == "spec.max_tokens"
    assert "512" in violation.description


def test_any_language_can_call_by_reflection(stack: Stack) -> None:
    """With nothing of ours installed: the contract comes from the server."""
    program = """
        import json, sys
        import grpc
        from google.protobuf.descriptor_pool import DescriptorPool
        from google.protobuf.json_format import MessageToDict, ParseDict
        from google.protobuf.message_factory import GetMessageClass
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
            ProtoReflectionDescriptorDatabase,
        )
        channel = grpc.insecure_channel(sys.argv[1])
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("miao.v1.GenerationService")
        method = service.FindMethodByName("Generate")
        request = GetMessageClass(method.input_type)()
        ParseDict({"spec": {"prompt": "fox", "maxTokens": 4, "ignoreEos": True}}, request)
        call = channel.unary_stream(
            "/miao.v1.GenerationService/Generate",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        events = [MessageToDict(response)["event"] for response in call(request)]
        assert "miao" not in sys.modules
        print(json.dumps([sorted(database.get_services()), events]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), stack.address],
        capture_output=True,
        text=True,
        check=True,
    )
    services, events = json.loads(done.stdout)
    assert {"miao.v1.GenerationService", "miao.v1.ModelService", "grpc.health.v1.Health"} <= set(
        services
    )
    assert "accepted" in events[0]
    assert events[-1]["finished"]["reason"] == "FINISH_REASON_LENGTH"


@contextmanager
def another_front(stack: Stack) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "miao_service", "--redis-url", stack.redis_url]
        + ["--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("front listening on "), line
    try:
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_stream_goes_on_at_another_front_when_one_ends(
    stack: Stack, end: signal.Signals, expected: Callable[[list[int], int], list[int]]
) -> None:
    prompt = [7, 8, 9]
    with another_front(stack) as (front, address), Client([address, stack.address]) as client:
        stream = client.generate(prompt, max_tokens=450, temperature=0, ignore_eos=True)
        token_ids: list[int] = []
        for chunk in stream:
            token_ids += chunk.token_ids
            if front.poll() is None and len(token_ids) > 30:
                front.send_signal(end)
                if end is signal.SIGKILL:
                    front.wait()
        assert token_ids == expected(prompt, 450)


def processes_of(marker: str) -> list[str]:
    """Command lines that contain a marker of this test alone."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if marker in command:
                found.append(command)
    return found


def wait_gone(marker: str) -> None:
    deadline = time.monotonic() + 30
    while found := processes_of(marker):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def up(model: Path, *arguments: str) -> list[str]:
    options = [f"--worker-option={option}" for option in WORKER_OPTIONS]
    command = [sys.executable, "-m", "miao_client.cli", "up", "--model", str(model)]
    return [*command, "--listen", "127.0.0.1:0", *options, *arguments]


def test_up_answers_a_question_and_stops_everything(tiny_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*up(tiny_model, "--ask", "春天"), "--data-folder", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "› 春天" in done.stdout
    assert "tokens in" in done.stdout
    wait_gone(str(tmp_path))


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_up_leaves_no_process_behind(tiny_model: Path, end: signal.Signals, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*up(tiny_model), "--data-folder", str(tmp_path / "data")],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 120
    while "Ctrl-C" not in output.read_text():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(end)
    status = process.wait(60)
    assert status == (0 if end is signal.SIGINT else -end)
    wait_gone(str(tmp_path / "data"))


def test_up_with_a_model_that_is_not_there_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        up(tmp_path / "nothing"),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
