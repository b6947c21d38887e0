"""One name that stands for several fronts."""

from __future__ import annotations

import threading

import pytest

from miao_client import AsyncClient, Client, UnavailableError
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


def test_a_front_that_says_it_does_not_serve_gets_no_new_calls(miao_service: FakeService) -> None:
    go = threading.Event()
    first, second = miao_service.target, miao_service.start()
    with Client(f"ipv4:{first},{second}") as client:
        client.models()
        while len({call.peer for call in miao_service.calls}) < 2:
            client.models()
        miao_service.always_says("a", Wait(go), "b")
        streams = [client.generate("x") for _ in range(2)]
        assert all(stream.generation_id for stream in streams)

        miao_service.say_health(first, False)
        wait_until_all_calls_go_to(1, client, miao_service)
        go.set()
        assert [stream.text for stream in streams] == ["ab", "ab"]
        assert miao_service.requests("FollowGeneration") == []  # no stream was cut for it

        miao_service.say_health(first, True)
        wait_until_all_calls_go_to(2, client, miao_service)


def test_health_is_not_asked_where_the_caller_says_so(miao_service: FakeService) -> None:
    target = both(miao_service)
    miao_service.say_health(miao_service.target, False)
    with Client(target, health_check=False) as client:
        wait_until_all_calls_go_to(2, client, miao_service)


def test_no_healthy_front_is_no_answer(miao_service: FakeService) -> None:
    miao_service.say_health(miao_service.target, False)
    with (
        Client(f"ipv4:{miao_service.target}", connect_timeout=0.2, retry_budget=0) as client,
        pytest.raises(UnavailableError, match="unhealthy"),
    ):
        client.models()


def wait_until_all_calls_go_to(number: int, client: Client, service: FakeService) -> None:
    """Each watcher learns of it by itself: soon, not at once."""
    for _ in range(1000):
        del service.calls[:]
        for _ in range(6):
            client.models()
        if len({call.peer for call in service.calls}) == number:
            return
    raise AssertionError(f"calls never went to {number} addresses")


async def test_so_do_those_of_the_asynchronous_client(miao_service: FakeService) -> None:
    async with AsyncClient(both(miao_service)) as client:
        await client.models()
        while len({call.peer for call in miao_service.calls}) < 2:
            await client.models()
