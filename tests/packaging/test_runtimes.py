"""The oldest and the newest gRPC and protobuf that we name: stubs load, calls go through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import google.protobuf, grpc
from miao_client.testing import Cut, FakeService
with FakeService() as service, service.client() as client:
    service.will_say("Hello", Cut(), " world")
    assert client.generate("Hi").text == "Hello world"
    assert client.models()[0].name == "fake"
from miao_client.failures import Failure
for target in ("127.0.0.1:1", "dns:///127.0.0.1:1", "dns:///x.invalid:1"):
    with grpc.insecure_channel(target) as channel:
        try:
            channel.unary_unary("/x/Y")(b"", timeout=10)
        except grpc.RpcError as error:
            assert Failure.of(error).is_unsent, error
print(grpc.__version__, google.protobuf.__version__)
"""


@pytest.mark.parametrize(
    "versions",
    [["grpcio==1.75.1", "protobuf==6.31.1"], ["grpcio>=1.75.1", "protobuf>=6.31.1,<8"]],
    ids=["oldest", "newest"],
)
def test_the_stubs_load_and_calls_go_through(tmp_path: Path, versions: list[str]) -> None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--target", str(tmp_path), "--only-binary", ":all:"]
    wanted = [*versions, "googleapis-common-protos>=1.70"]
    if subprocess.run([*install, *wanted], check=False).returncode:
        pytest.skip("pip cannot get these versions here")
    folders = [tmp_path, ROOT / "proto", ROOT / "client"]
    (tmp_path / "miao-0.1.0.dist-info").mkdir()
    (tmp_path / "miao-0.1.0.dist-info" / "METADATA").write_text("Name: miao\nVersion: 0.1.0\n")
    path = f"import sys; sys.path[:0] = {[str(folder) for folder in folders]!r}\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", path + PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if versions[0].startswith("grpcio=="):
        assert done.stdout.split() == [each.partition("==")[2] for each in versions]
