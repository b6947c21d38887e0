"""TLS, certificates, API keys and tokens, from a channel to the identity behind a call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from tests.certificates import Authority, Identity

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2 as models
from miao.v1.model_service_pb2_grpc import ModelServiceStub
from miao_client import AsyncClient, Client, Tls, UnavailableError
from miao_queue.audit import Audit
from miao_queue.connection import connect_async
from miao_queue.key_ring import new_line
from miao_service.auth import keys_cli
from miao_service.front import running_front
from miao_service.settings import ServiceSettings


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


@contextlib.asynccontextmanager
async def tls_channel(port: int, roots: bytes, shown: Identity | None = None) -> AsyncIterator[Any]:
    pair = (None, None) if shown is None else (shown.key, shown.certificate)
    credentials = grpc.ssl_channel_credentials(roots, *pair)
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials, options) as channel:
        yield channel


async def names(channel: Any, **options: Any) -> list[str]:
    stub: Any = ModelServiceStub(channel)
    listed = await stub.ListModels(models.ListModelsRequest(), timeout=5, **options)
    return [model.name for model in listed.models]


async def test_a_certificate_is_replaced_while_the_front_runs(
    redis_url: str, worker: Any, tmp_path: Path, refused: Any, caplog: Any
) -> None:
    first, second = Authority("first"), Authority("second")
    certificate, key = first.server().write(tmp_path, "server")
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        redis_url=redis_url,
        drain_seconds=0.2,
        tls_certificate=certificate,
        tls_key=key,
    )
    async with running_front(settings) as (_, port), tls_channel(port, first.pem) as old:
        assert await names(old) == ["tiny"]
        (tmp_path / "server.key").write_bytes(second.server().key)  # half of a replacement
        async with tls_channel(port, first.pem) as still:
            assert await names(still) == ["tiny"]
        assert "cannot be used: the key in" in caplog.text
        second.server().write(tmp_path, "server")
        async with tls_channel(port, second.pem) as new:
            assert await names(new) == ["tiny"]
        async with tls_channel(port, first.pem) as distrustful:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await names(distrustful)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert await names(old) == ["tiny"]  # what was open stays
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as plain:
            with pytest.raises(grpc.aio.AioRpcError):
                await names(plain)


async def test_callers_with_certificates_are_known_by_their_spiffe_ids(
    redis_url: str, worker: Any, tmp_path: Path, refused: Any, database: Any
) -> None:
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "server")
    (tmp_path / "roots").write_bytes(authority.pem)
    (tmp_path / "map").write_text("spiffe://example.org/shop shop", "utf-8")
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        redis_url=redis_url,
        drain_seconds=0.2,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_roots=str(tmp_path / "roots"),
        spiffe_tenants=str(tmp_path / "map"),
    )
    shop = authority.client("spiffe://example.org/shop")
    stranger = authority.client("spiffe://example.org/other")
    forger = Authority("authority").client("spiffe://example.org/shop")
    late = authority.client("spiffe://example.org/shop", ended=timedelta(minutes=1))
    async with running_front(settings) as (_, port):
        async with tls_channel(port, authority.pem, shop) as channel:
            create = channel.unary_unary(
                "/miao.v1.GenerationService/CreateGeneration",
                request_serializer=rpc.CreateGenerationRequest.SerializeToString,
                response_deserializer=rpc.CreateGenerationResponse.FromString,
            )
            request = rpc.CreateGenerationRequest(spec=pb.GenerationSpec(prompt="hello"))
            created = await create(request, timeout=5)
            key_name = f"miao:gen:{created.generation.generation_id}"
            assert database.hget(key_name, "tenant") == b"shop"
        async with tls_channel(port, authority.pem, stranger) as channel:
            stub: Any = ModelServiceStub(channel)
            refusal = await refused(stub.ListModels(models.ListModelsRequest(), timeout=5))
            assert (refusal.code.name, refusal.reason) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")
        for shown in (None, forger, late):
            async with tls_channel(port, authority.pem, shown) as channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await names(channel)
                assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # no handshake


async def test_keys_are_made_listed_rotated_and_revoked(
    start_front: Any,
    worker: Any,
    redis_url: str,
    tmp_path: Path,
    refused: Any,
    capsys: Any,
    database: Any,
    monkeypatch: Any,
) -> None:
    peppers = tmp_path / "peppers"
    peppers.write_text(new_line("p1"), "utf-8")
    monkeypatch.setenv("MIAO_API_KEY_PEPPER", str(peppers))
    monkeypatch.setenv("REDIS_URL", redis_url)

    async def miao_keys(*argv: str) -> Any:
        assert await in_thread(keys_cli.main, list(argv)) == 0
        return capsys.readouterr().out.strip()

    first = await miao_keys("create", "--tenant", "ann", "--label", "first")
    peppers.write_text(f"{new_line('p2')}\n{peppers.read_text('utf-8')}", "utf-8")
    second = await miao_keys("create", "--tenant", "ann", "--scopes", "models", "--expires", "1d")
    settings = {"api_key_pepper": str(peppers), "api_key_cache_seconds": 0.0}
    async with start_front(**settings) as front:
        for text in (first, second):  # both live, under old and new pepper
            assert await names(front.channel, metadata=bearer(text)) == ["tiny"]
        listing = rpc.ListGenerationsRequest()
        barred = front.generations.ListGenerations(listing, metadata=bearer(second), timeout=5)
        assert (await refused(barred)).reason == "MISSING_SCOPE"
        await front.generations.ListGenerations(listing, metadata=bearer(first), timeout=5)

        listed = json.loads(await miao_keys("list", "--tenant", "ann", "--json"))
        assert [entry["label"] for entry in listed] == ["", "first"]
        assert [entry["state"] for entry in listed] == ["valid", "valid"]
        assert [entry["scopes"] for entry in listed] == [["models"], ["infer", "models", "read"]]
        assert await miao_keys("list", "--tenant", "bob", "--json") == "[]"
        assert listed[1]["id"] in await miao_keys("list")

        await miao_keys("revoke", listed[1]["id"])
        stub: Any = front.models
        again = stub.ListModels(models.ListModelsRequest(), metadata=bearer(first), timeout=5)
        assert (await refused(again)).reason == "BAD_CREDENTIALS"
        assert await names(front.channel, metadata=bearer(second)) == ["tiny"]
        assert await in_thread(keys_cli.main, ["revoke", "nosuchkey"]) == 1
    known = json.loads(await miao_keys("list", "--json"))
    assert [entry["state"] for entry in known] == ["valid", "revoked"]
    assert all(entry["last_used"] for entry in known)
    kept = b"".join(
        b"".join(part for pair in database.hgetall(name).items() for part in pair)
        for name in database.keys("miao:api-key:*")
    )
    for text in (first, second):
        assert text.rpartition("_")[2].encode() not in kept  # the secrets are nowhere
    connection = connect_async(redis_url)
    noted = [record for _, record in reversed(await Audit(connection, 0).newest(9))]
    await connection.aclose()
    made, revoked = "CreateApiKey", "RevokeApiKey"
    ids = [text.split("_")[1] for text in (first, second, first)]
    assert [record.action for record in noted] == [made, made, revoked]
    assert [record.target for record in noted] == ids
    assert {(each.tenant, each.credential) for each in noted} == {("ann", "redis:default")}


async def in_thread(function: Any, *arguments: Any) -> Any:
    """The command has an event loop of its own."""
    return await asyncio.to_thread(function, *arguments)


async def test_tokens_of_a_trusted_issuer_are_taken(
    start_front: Any, worker: Any, refused: Any, tmp_path: Path
) -> None:
    key = ECKey.generate_key("P-256", {"kid": "one"})
    (tmp_path / "jwks").write_text(json.dumps({"keys": [key.as_dict(private=False)]}), "utf-8")
    claims = {"iss": "issuer", "aud": "miao", "tenant": "ann", "exp": int(time.time()) + 60}
    good = jwt.encode({"alg": "ES256", "kid": "one"}, claims, key)
    late = jwt.encode({"alg": "ES256", "kid": "one"}, claims | {"exp": 1}, key)
    settings = {"jwt_keys": str(tmp_path / "jwks"), "jwt_issuer": "issuer", "jwt_audience": "miao"}
    async with start_front(**settings) as front:
        assert await names(front.channel, metadata=bearer(good)) == ["tiny"]
        call = front.models.ListModels(models.ListModelsRequest(), metadata=bearer(late), timeout=5)
        refusal = await refused(call)
        assert (refusal.code.name, refusal.reason) == ("UNAUTHENTICATED", "EXPIRED_CREDENTIALS")


async def test_a_front_beyond_this_machine_refuses_to_start_unless_told_so(redis_url: str) -> None:
    command = [sys.executable, "-m", "miao_service", "--redis-url", redis_url]
    for more in ([], ["--processes", "2"]):
        process = await asyncio.create_subprocess_exec(
            *command, "--listen", "0.0.0.0:0", *more, stderr=asyncio.subprocess.PIPE
        )
        _, said = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 2
        assert said.decode().startswith(
            "miao service: --listen 0.0.0.0:0 is beyond this machine, and anyone could call"
        )
        assert len(said.splitlines()) == 1


async def test_the_sdk_shows_certificates_and_trusts_the_roots_that_it_is_told(
    redis_url: str, worker: Any, tmp_path: Path
) -> None:
    authority = Authority()
    certificate, key = authority.server().write(tmp_path, "server")
    roots = str(tmp_path / "roots")
    (tmp_path / "roots").write_bytes(authority.pem)
    (tmp_path / "others").write_bytes(Authority().pem)
    shown, held = authority.client(None).write(tmp_path, "client")
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        redis_url=redis_url,
        drain_seconds=0.2,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_roots=roots,
    )
    async with running_front(settings) as (_, port):
        target = f"localhost:{port}"

        def through_threads() -> list[str]:
            with Client(target, tls=Tls(roots, shown, held)) as client:
                return [model.name for model in client.models()]

        assert await asyncio.to_thread(through_threads) == ["tiny"]
        async with AsyncClient(target, tls=Tls(roots, shown, held)) as client:
            assert [model.name for model in await client.models()] == ["tiny"]
        for wrong in (Tls(roots), Tls(str(tmp_path / "others"), shown, held), False):
            async with AsyncClient(target, tls=wrong, connect_timeout=0.0) as client:
                with pytest.raises(UnavailableError):
                    await client.models()


async def test_a_client_that_outlives_its_certificate_goes_on_with_the_one_that_replaces_it(
    redis_url: str, worker: Any, tmp_path: Path
) -> None:
    old, new = Authority("old"), Authority("new")
    server = new.server().write(tmp_path, "server")
    (tmp_path / "roots").write_bytes(new.pem)
    trusted = tmp_path / "trusted"
    trusted.write_bytes(old.pem + new.pem)
    shown, held = old.client(None).write(tmp_path, "client")
    settings = ServiceSettings(
        listen="127.0.0.1:0",
        redis_url=redis_url,
        drain_seconds=0.2,
        tls_certificate=server[0],
        tls_key=server[1],
        tls_client_roots=str(trusted),
        max_connection_age_seconds=0.2,
    )
    tls = Tls(str(tmp_path / "roots"), shown, held)
    async with running_front(settings) as (_, port), contextlib.AsyncExitStack() as stack:
        target = f"localhost:{port}"
        asynchronous = await stack.enter_async_context(AsyncClient(target, tls=tls))
        threaded = stack.enter_context(Client(target, tls=tls))
        await asynchronous.models()
        await asyncio.to_thread(threaded.models)
        channels = [client._transport._targets.current() for client in (asynchronous, threaded)]
        trusted.write_bytes(new.pem)  # as if the old certificate had ended
        new.client(None).write(tmp_path, "client")
        async with asyncio.timeout(10):  # calls go on, and at last by connections of its own
            while asynchronous._transport._targets.current() is channels[0]:
                assert [model.name for model in await asynchronous.models()] == ["tiny"]
            while threaded._transport._targets.current() is channels[1]:
                assert [each.name for each in await asyncio.to_thread(threaded.models)] == ["tiny"]
