"""The whole stack where everything is guarded.

Redis users with the least rights, TLS to Redis, signed jobs, and nothing of what is asked
or said in Redis's files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from redis import Redis, exceptions
from rq import Queue
from rq.cli import main as rq_cli
from rq.serializers import JSONSerializer

from miao.internal.v1.queue_pb2 import Job
from miao_client import Client, MiaoError, Regex
from miao_queue import access, keys
from miao_queue.connection import connect
from miao_queue.key_ring import new_line
from miao_service.auth import keys_cli
from miao_worker.stack import StackSettings
from tests.certificates import Authority
from tests.conftest import free_port, redis_program
from tests.forked_worker import ForkingStack
from tests.tls_proxy import TlsProxy

from .conftest import WORKER_OPTIONS

PASSWORDS = {user.name: f"password of {user.name}" for user in access.USERS}
PROMPT, STOP = "Vier-Augen-Prinzip 7141", "Stoppwort 7142"


class GuardedRedis:
    """A server with the users of deploy/redis, which writes its file without compression."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        lines = access.file_text()
        for name, password in PASSWORDS.items():
            digest = hashlib.sha256(password.encode()).hexdigest()
            lines = lines.replace(f"{name.upper()}_SHA256", digest)
        lines += "user root on >root ~* &* +@all\n"
        (folder / "users.acl").write_text(lines, "utf-8")
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(folder),
            "save": "",
            "appendonly": "yes",
            "aof-use-rdb-preamble": "no",
            "rdbcompression": "no",
            "aclfile": str(folder / "users.acl"),
            "loglevel": "warning",
        }
        command = [redis_program()]
        for name, value in options.items():
            command += [f"--{name}", value]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.root = Redis(port=self.port, username="root", password="root")
        deadline = time.monotonic() + 10
        while True:
            try:
                self.root.ping()
                return
            except exceptions.ConnectionError:
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def url(self, user: str, port: int | None = None, scheme: str = "redis") -> str:
        password = quote(PASSWORDS[user])
        return f"{scheme}://{user}:{password}@127.0.0.1:{port or self.port}/0"

    def everything_on_disk(self) -> bytes:
        """The append-only file, written whole just now, and the snapshot."""
        self.root.execute_command("SAVE")
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return b"\n".join(path.read_bytes() for path in files if path.name != "users.acl")

    def denials(self) -> list[str]:
        """What users were denied."""
        log = self.root.acl_log(100)
        return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in log]

    def stop(self) -> None:
        self.root.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: Any) -> Iterator[GuardedRedis]:
    server = GuardedRedis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_the_file_is_the_one_that_the_code_makes() -> None:
    path = Path(__file__).parents[3] / "deploy" / "redis" / "users.acl"
    assert path.read_text("utf-8") == access.file_text()


def test_every_key_has_a_user_and_nothing_else_is_allowed() -> None:
    listed = {
        line.split()[0]
        for line in (keys.__doc__ or "").splitlines()
        if line.startswith("    miao:")
    }
    names = {name.partition("<")[0] for name in listed}
    patterns = {
        pattern
        for user in access.USERS
        for pattern in (*user.patterns, *user.reads, *user.writes)
        if not pattern.startswith("rq:")
    }
    allowed = {pattern.partition("*")[0] for pattern in patterns} - {"miao:none"}
    assert names == allowed


def test_every_command_of_the_scripts_is_allowed_to_who_runs_them() -> None:
    folder = resources.files("miao_queue") / "lua"
    for name in ("miao-front", "miao-worker"):
        [user] = [user for user in access.USERS if user.name == name]
        texts = [entry.read_text("utf-8") for entry in folder.iterdir() if entry.is_file()]
        called = {word.lower() for text in texts for word in re.findall(r"call\('([A-Z]+)'", text)}
        assert called
        assert called <= set(user.commands), name


def test_an_autoscaler_counts_what_waits_and_runs_and_can_do_nothing_else(
    redis: GuardedRedis,
) -> None:
    """By the script with which KEDA asks for the length of whatever a key holds."""
    count = """
        local commands = {list = 'llen', zset = 'zcard', none = 'llen'}
        return redis.call(commands[redis.call('type', KEYS[1]).ok], KEYS[1])
    """
    redis.root.rpush("rq:queue:m:normal", "a", "b")
    redis.root.zadd("rq:wip:m:normal", {"c:1": 1})
    with connect(redis.url("miao-scaler")) as scaler:
        found = [
            scaler.eval(count, 1, f"rq:{what}:m:normal") for what in ("queue", "wip", "queue:x")
        ]
        assert found == [2, 1, 0]
        for command in (("lpop", "rq:queue:m:normal"), ("lrange", "rq:queue:m:normal", 0, -1)):
            with pytest.raises(exceptions.NoPermissionError):
                scaler.execute_command(*command)
        with pytest.raises(exceptions.NoPermissionError):
            scaler.eval("return redis.call('llen', KEYS[1])", 1, "miao:journal:x")
    redis.root.delete("rq:queue:m:normal", "rq:wip:m:normal")
    redis.root.acl_log_reset()


def test_the_stack_runs_under_the_least_rights_over_tls_and_leaves_nothing_readable(
    redis: GuardedRedis, tiny_model: Path, tmp_path: Path, capsys: Any
) -> None:
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "redis")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.pem)
    for name in ("signing", "encryption", "peppers"):
        (tmp_path / name).write_text(new_line("k1"), "utf-8")
    with TlsProxy(redis.port, certificate, key) as proxy:
        end = f"?ssl_ca_certs={roots}"
        front_url = redis.url("miao-front", proxy.port, "rediss") + end
        worker_url = redis.url("miao-worker", proxy.port, "rediss") + end
        keys_url = redis.url("miao-keys", proxy.port, "rediss") + end
        pepper = str(tmp_path / "peppers")
        create = ["create", "--redis-url", keys_url, "--pepper", pepper, "--tenant", "ann"]
        assert keys_cli.main(create) == 0
        api_key = capsys.readouterr().out.strip()
        assert keys_cli.main([*create, "--json"]) == 0
        spare = json.loads(capsys.readouterr().out)["id"]
        assert keys_cli.main(["revoke", "--redis-url", keys_url, spare]) == 0
        assert keys_cli.main(["list", "--redis-url", keys_url]) == 0
        guards = {
            "MIAO_SIGNING_KEYS": str(tmp_path / "signing"),
            "MIAO_ENCRYPTION_KEYS": str(tmp_path / "encryption"),
            "MIAO_API_KEY_PEPPER": pepper,
        }
        options = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
        options += ["--redis-url", worker_url]  # in place of the front's
        stack = ForkingStack(StackSettings("127.0.0.1:0", options, front_url), lambda *_: None)
        with environment(**guards):
            stack.start()
        try:
            with Client(stack.address, api_key=api_key) as client:
                said = use_everything(client)
        finally:
            stack.stop()
        assert redis.denials() == []
        assert len(said["listed"]) == redis.root.zcard(keys.tenant("ann"))  # all can be read
        found = redis.everything_on_disk()
        assert b"miao:journal:" in found
        assert b"miao:audit" in found
        secrets = [
            PROMPT.encode(),
            STOP.encode(),
            said["text"].encode(),
            api_key.rpartition("_")[2].encode(),
        ]
        secrets += [
            Job(prompt_token_ids=token_ids[:8]).SerializeToString()[2:]
            for token_ids in (said["prompt"], said["output"])
        ]
        assert not [secret for secret in secrets if secret in found]


def use_everything(client: Client) -> dict[str, Any]:
    """Make what can be made, and return what must not be found."""
    prompt = client.tokenize(PROMPT).token_ids
    result = client.generate(PROMPT, max_tokens=40, ignore_eos=True, stop=[STOP]).result()
    odd: list[Any] = [{"model": PROMPT}, {"response_format": Regex(f"({PROMPT}")}]
    for refused in (*odd, {"max_tokens": 10**6}):
        with pytest.raises(MiaoError):
            client.generate(PROMPT, stop=[STOP], **refused).result()  # which the audit notes
    again = client.get(result.generation_id, include_output=True)
    assert again.output is not None
    assert again.output.text == result.text
    client.score("a text", prompt="behind another")
    waiting = client.create(PROMPT, max_tokens=300, ignore_eos=True)
    client.cancel(waiting.generation_id)
    listed = {generation.generation_id for generation in client.list()}
    assert {result.generation_id, waiting.generation_id} <= listed
    assert [model.name for model in client.models()] == ["tiny"]
    return {"listed": listed, "prompt": prompt, "output": result.token_ids, "text": result.text}


@pytest.mark.parametrize(
    ("user", "command"),
    [
        *(("miao-front", words) for words in ("FLUSHALL", "CONFIG GET *", "KEYS *", "SCAN 0")),
        ("miao-front", "HGETALL elsewhere"),
        ("miao-front", "SUBSCRIBE anything"),
        ("miao-worker", "HGETALL miao:api-key:abc"),
        ("miao-worker", "SMEMBERS miao:api-keys"),
        ("miao-worker", "FLUSHDB"),
        ("miao-worker", "ACL LIST"),
        ("miao-worker", "XREAD STREAMS miao:front:f 0"),
        ("miao-keys", "HGETALL miao:gen:abc"),
        ("miao-keys", "XRANGE miao:journal:abc - +"),
        ("miao-keys", "XREVRANGE miao:audit + -"),
        ("miao-operator", "HGETALL miao:gen:abc"),
        ("miao-operator", "SMEMBERS miao:api-keys"),
        ("miao-operator", "DEL rq:queue:tiny:normal"),
        ("miao-operator", "HSET rq:job:abc data x"),
        ("miao-operator", "EVAL return 0"),
    ],
)
def test_what_a_user_does_not_need_is_denied(redis: GuardedRedis, user: str, command: str) -> None:
    client = connect(redis.url(user))
    with pytest.raises(exceptions.NoPermissionError):
        client.execute_command(*command.split())
    client.close()


def test_rqs_tools_run_under_the_operators_user(redis: GuardedRedis) -> None:
    Queue("tiny:normal", connection=redis.root, serializer=JSONSerializer).enqueue("nobody.runs")
    redis.root.acl_log_reset()
    url = redis.url("miao-operator")
    runner = CliRunner()
    listed = runner.invoke(rq_cli, ["info", "--url", url])
    assert "tiny:normal" in listed.output
    for word in ("suspend", "resume"):
        runner.invoke(rq_cli, [word, "--url", url], catch_exceptions=False)
        assert redis.root.exists("rq:suspended") == (word == "suspend")
    assert redis.denials() == []


def test_scripts_give_nobody_more_rights(redis: GuardedRedis) -> None:
    client = connect(redis.url("miao-worker"))
    with pytest.raises(exceptions.ResponseError, match=r"(?i)acl|permission"):
        client.eval("return redis.call('HGETALL', 'miao:api-key:' .. ARGV[1])", 0, "abc")
    client.close()


def test_a_redis_whose_certificate_is_unknown_is_not_talked_to(
    redis: GuardedRedis, tmp_path: Path
) -> None:
    certificate, key = Authority().server().write(tmp_path, "redis")
    roots = tmp_path / "roots.pem"
    roots.write_bytes(Authority().pem)
    with TlsProxy(redis.port, certificate, key) as proxy:
        client = connect(redis.url("miao-front", proxy.port, "rediss") + f"?ssl_ca_certs={roots}")
        with pytest.raises((exceptions.ConnectionError, ssl.SSLError)):
            client.ping()
        client.close()
