"""The images that `make images` has built: what is in them, and that they work together.

They run in chroots of buildah on this machine's loopback, beside a Valkey of the tests' own.
BUILDAH says how buildah is called.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from miao_client import Client, __version__
from miao_queue.telemetry.probes import LIVENESS
from tests.conftest import RedisServer, free_port

BUILDAH = shlex.split(os.environ.get("BUILDAH", "buildah"))
PREFIX = os.environ.get("IMAGES_PREFIX") or "localhost/miao-"
SERVING = 1
USER = 10001
NAMES = ("front", "gateway", "worker")
FRONT_BYTES = 200_000_000  # at most, over its base


def buildah(*arguments: str) -> str:
    done = subprocess.run([*BUILDAH, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Image:
    """An image, and a container of it in which commands run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.container = buildah("from", f"{PREFIX}{name}:{__version__}")
        self.root = Path(buildah("mount", self.container))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*BUILDAH, "run", self.container, "--", *command],
            capture_output=True,
            text=True,
            check=False,
        )

    @contextlib.contextmanager
    def program(self, *arguments: str, **environ: str) -> Iterator[psutil.Process]:
        """What the image is for, with these arguments; ended as a cluster would."""
        options = [word for name, value in environ.items() for word in ("--env", f"{name}={value}")]
        command = [*BUILDAH, "run", *options, self.container, "--", "miao", *arguments]
        outer = subprocess.Popen(command)
        try:
            program = self._inner(outer)
            yield program
            program.send_signal(signal.SIGTERM)
            assert outer.wait(40) == 0, self.name
        finally:
            if outer.poll() is None:
                outer.terminate()
                outer.wait()

    def _inner(self, outer: subprocess.Popen[bytes]) -> psutil.Process:
        deadline = time.monotonic() + 30
        while True:
            for child in psutil.Process(outer.pid).children(recursive=True):
                with contextlib.suppress(
                    psutil.Error, ValueError
                ):  # those that set it up come and go
                    python, *words = child.cmdline()  # buildah's own have the same words behind
                    if python.startswith("/opt/miao/bin/") and "/opt/miao/bin/miao" in words:
                        return child
            assert outer.poll() is None, self.name
            assert time.monotonic() < deadline, self.name
            time.sleep(0.05)


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Image]]:
    made = {name: Image(name) for name in NAMES}
    yield made
    for image in made.values():
        buildah("rm", image.container)


def is_well(port: int, service: str, seconds: float = 90) -> bool:
    """Asks as a kubelet does, until the answer is yes."""
    deadline = time.monotonic() + seconds
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            try:
                asked = health_pb2.HealthCheckRequest(service=service)
                if stub.Check(asked, wait_for_ready=True, timeout=5).status == SERVING:
                    return True
            except grpc.RpcError:
                pass
            time.sleep(0.2)
    return False


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_nobody_and_can_write_only_where_a_volume_will_be(
    images: dict[str, Image], name: str
) -> None:
    config = json.loads(buildah("inspect", images[name].container))["OCIv1"]["config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["miao"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    places = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/sys/*'"
    done = images[name].run("sh", "-c", f"id -u; {places} -not -path '/dev/*'")
    user, *writable = done.stdout.split()
    assert user == str(USER)
    assert set(writable) <= {"/tmp", "/var/tmp", "/run/lock", "/dev"}, writable


def test_models_are_in_no_image_but_the_one_that_is_part_of_the_package(
    images: dict[str, Image],
) -> None:
    weights = {
        name: [p.name for p in image.root.rglob("*.safetensors")] for name, image in images.items()
    }
    assert weights == {"front": [], "gateway": [], "worker": ["model.safetensors"]}


@pytest.mark.parametrize(
    ("name", "there", "gone"),
    [
        ("front", "miao_service.server", ("torch", "transformers", "miao_worker", "pip")),
        ("gateway", "miao_client.gateway.command", ("torch", "redis", "rq", "miao_queue", "pip")),
        ("worker", "miao_worker.batch_worker", ("pip",)),
    ],
)
def test_an_image_has_what_its_program_needs_and_no_more(
    images: dict[str, Image], name: str, there: str, gone: tuple[str, ...]
) -> None:
    program = (
        f"import importlib.util as u, {there}; "
        f"print([n for n in {gone!r} if u.find_spec(n) is not None])"
    )
    done = images[name].run("/opt/miao/bin/python", "-c", program)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_fronts_image_is_small() -> None:
    folder = os.environ.get("IMAGES_FOLDER")
    if not folder:
        pytest.skip("IMAGES_FOLDER does not say where the sizes are")
    lines = (Path(folder) / "sizes.txt").read_text("utf-8").split("\n")
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines if line}
    base = next((size for name, size in sizes.items() if "base" in name), None)
    if base is None:
        pytest.skip("the base's size is not known")
    assert sizes[f"{PREFIX}front:{__version__}"] - base < FRONT_BYTES


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.kill()


def ask_gateway(port: int, path: str, body: dict[str, object] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_call_goes_through_all_images_and_each_ends_when_told(
    images: dict[str, Image], redis: RedisServer, capsys: Any
) -> None:
    grpc_port, front_health, worker_health, http = (free_port() for _ in range(4))
    front = images["front"].program(
        "service",
        REDIS_URL=redis.url,
        MIAO_LISTEN=f"127.0.0.1:{grpc_port}",
        MIAO_HEALTH_LISTEN=str(front_health),
    )
    worker = images["worker"].program(
        *("worker", f"--health-listen={worker_health}", "--device=cpu", "--num-threads=1"),
        "--cache-gib=0.05",
        REDIS_URL=redis.url,
    )
    gateway = images["gateway"].program(
        "gateway", MIAO_GATEWAY_LISTEN=f"127.0.0.1:{http}", MIAO_TARGET=f"127.0.0.1:{grpc_port}"
    )
    began = time.monotonic()
    with front:
        assert is_well(front_health, "")
        assert is_well(front_health, LIVENESS)
        front_seconds = time.monotonic() - began
        began = time.monotonic()
        with worker, gateway, Client(f"127.0.0.1:{grpc_port}") as client:
            assert is_well(worker_health, "")
            assert is_well(worker_health, LIVENESS)
            worker_seconds = time.monotonic() - began
            result = client.generate("Set a reminder for 7 tomorrow.", max_tokens=16).result()
            assert result.usage is not None
            assert result.usage.output_tokens > 0
            assert ask_gateway(http, "/health")
            body = {"model": "miao-tiny", "prompt": "Hello", "max_tokens": 4}
            assert ask_gateway(http, "/v1/completions", body)["choices"]
    with capsys.disabled():
        print(f"\nready: front {front_seconds:.1f} s, worker {worker_seconds:.1f} s")
