"""One name that stands for several fronts."""

from __future__ import annotations

import threading

from miao_client import AsyncClient, Client
from miao_client.testing import FakeService, Wait

pytest_plugins = ["miao_client.testing.plugin"]


def both(service: FakeService) -> str:
    """One target that stands for two addresses, as a name in DNS does."""
    return "ipv4:" + ",".join([service.target, service.start()])


def test_calls_go_to_all_addresses_in_turn_and_past_one_that_stopped(
    miao_service: FakeService,
) -> None:
    go = threading.Event()
    with Client(both(miao_service)) as client:
        client.models()
        while len({call.peer for call in miao_service.calls}) < 2:  # the other may connect yet
            client.models()
        del miao_service.calls[:]
        for _ in range(10):
            client.models()
        peers = [call.peer for call in miao_service.calls]
        assert sorted(peers.count(peer) for peer in set(peers)) == [5, 5]

        miao_service.always_says("a", Wait(go), "b")
        streams = [client.generate("x") for _ in range(2)]
        assert all(stream.generation_id for stream in streams)
        miao_service.kill(miao_service.target)
        go.set()
        assert [stream.text for stream in streams] == ["ab", "ab"]


async def test_so_do_those_of_the_asynchronous_client(miao_service: FakeService) -> None:
    async with AsyncClient(both(miao_service)) as client:
        await client.models()
        while len({call.peer for call in miao_service.calls}) < 2:
            await client.models()
