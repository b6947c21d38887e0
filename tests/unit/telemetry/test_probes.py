"""What a cluster's probes ask of a process, on a port of its own."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from miao_queue.telemetry.exposition import MetricsListenError
from miao_queue.telemetry.probes import LIVENESS, answering
from miao_service.health import HealthPort, HealthServicer

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def request(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@dataclass
class Process:
    is_ready: bool = False
    is_alive: bool = True


def test_a_worker_says_whether_it_takes_work_and_whether_it_lives() -> None:
    process = Process()
    with answering("0", process) as address, grpc.insecure_channel(address) as channel:
        assert address.startswith("127.0.0.1:")
        check = health_pb2_grpc.HealthStub(channel).Check
        assert [check(request(each)).status for each in ("", LIVENESS)] == [NOT_SERVING, SERVING]
        process.is_ready, process.is_alive = True, False
        assert [check(request(each)).status for each in ("", LIVENESS)] == [SERVING, NOT_SERVING]
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            check(request("tiny"))
        with (
            pytest.raises(MetricsListenError, match="cannot answer health checks on"),
            answering(address, process),
        ):
            pass


def test_nothing_answers_where_nothing_is_named() -> None:
    with answering("", Process()) as address:
        assert address == ""


def test_what_is_no_address_is_said_with_its_option() -> None:
    with pytest.raises(MetricsListenError, match="--health-listen"), answering("x", Process()):
        pass


async def test_a_fronts_port_for_probes_has_health_alone_and_lives_while_the_front_drains() -> None:
    servicer = HealthServicer()
    port = HealthPort(servicer, "0", reuse_port=False)
    address = await port.start()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def statuses() -> list[int]:
            return [(await stub.Check(request(each))).status for each in ("", LIVENESS)]

        assert await statuses() == [NOT_SERVING, SERVING]
        servicer.tell({"": True})
        assert await statuses() == [SERVING, SERVING]
        servicer.close()
        assert await statuses() == [NOT_SERVING, SERVING]
        with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
            await channel.unary_unary("/miao.v1.ModelService/ListModels")(b"")
    await port.stop()
