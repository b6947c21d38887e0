"""Tokens are fetched once for all who need them, kept, and renewed before their end."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from miao_client import AccessToken, AsyncTokenProvider, AuthenticationError, TokenProvider
from miao_client.tokens import Fetched


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """Gives numbered tokens, and counts."""

    def __init__(self, lifetime: float | None = 600.0) -> None:
        self.lifetime = lifetime
        self.count = 0
        self.is_down = False

    def fetch(self) -> Fetched:
        if self.is_down:
            raise OSError("secret-url is down")
        self.count += 1
        return AccessToken(f"token-{self.count}", self.lifetime)

    async def fetch_async(self) -> Fetched:
        await asyncio.sleep(0)
        return self.fetch()


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.signature"


def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    clock, issuer = Clock(), Issuer()
    provider = TokenProvider(issuer.fetch, clock=clock)
    assert [provider.token() for _ in range(3)] == ["token-1"] * 3
    clock.now += 539
    assert provider.token() == "token-1"
    clock.now += 1
    assert provider.token() == "token-2"


def test_a_token_of_a_short_life_is_kept_for_most_of_it() -> None:
    clock, issuer = Clock(), Issuer(lifetime=10)
    provider = TokenProvider(issuer.fetch, clock=clock)
    provider.token()
    clock.now += 7
    assert provider.token() == "token-1"
    clock.now += 1
    assert provider.token() == "token-2"


def test_many_threads_have_it_fetched_once() -> None:
    go, issuer = threading.Event(), Issuer()

    def fetch() -> Fetched:
        go.wait(10)
        return issuer.fetch()

    provider = TokenProvider(fetch)
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(provider.token) for _ in range(16)]
        go.set()
        assert {each.result() for each in waiting} == {"token-1"}
    assert issuer.count == 1


def test_others_go_on_with_the_old_token_while_one_refreshes() -> None:
    clock, issuer = Clock(), Issuer()
    provider = TokenProvider(issuer.fetch, clock=clock)
    provider.token()
    clock.now += 550
    begun, go = threading.Event(), threading.Event()

    def slowly() -> Fetched:
        begun.set()
        go.wait(10)
        return issuer.fetch()

    provider._fetch = slowly
    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(provider.token)
        assert begun.wait(10)
        assert provider.token() == "token-1"
        go.set()
        assert refreshing.result() == "token-2"


def test_a_refresh_that_fails_leaves_the_token_for_as_long_as_it_holds() -> None:
    clock, issuer = Clock(), Issuer()
    provider = TokenProvider(issuer.fetch, clock=clock)
    provider.token()
    issuer.is_down = True
    clock.now += 550
    assert provider.token() == "token-1"
    assert provider.held() == "token-1"  # the issuer is not asked again at each call
    clock.now += 50
    with pytest.raises(AuthenticationError) as caught:
        provider.token()
    assert isinstance(caught.value.__cause__, OSError)
    assert "secret" not in str(caught.value)


def test_a_rejected_token_is_forgotten_and_a_newer_one_kept() -> None:
    issuer = Issuer()
    provider = TokenProvider(issuer.fetch)
    provider.reject(provider.token())
    assert provider.token() == "token-2"
    provider.reject("token-1")
    assert provider.token() == "token-2"


@pytest.mark.parametrize(
    ("token", "lasts"),
    [
        (jwt(exp=time.time() + 500), False),
        (jwt(sub="x"), True),
        (jwt(exp="soon"), True),
        ("an.opaque.token", True),
        ("opaque", True),
    ],
)
def test_a_json_web_token_says_its_own_end(token: str, lasts: bool) -> None:
    clock = Clock()
    provider = TokenProvider(lambda: token, clock=clock)
    provider.token()
    clock.now += 510
    assert (provider.held() is not None) is lasts


def test_a_token_that_has_ended_already_is_shown_once() -> None:
    issuer = Issuer(lifetime=0)
    provider = TokenProvider(issuer.fetch)
    assert [provider.token(), provider.token()] == ["token-1", "token-2"]
    assert asyncio.run(AsyncTokenProvider(issuer.fetch_async).token()) == "token-3"


def test_a_token_is_in_no_representation() -> None:
    assert "secret" not in repr(AccessToken("secret"))


async def test_many_tasks_have_it_fetched_once() -> None:
    issuer = Issuer()
    provider = AsyncTokenProvider(issuer.fetch_async)
    assert provider.held() is None
    tokens = await asyncio.gather(*(provider.token() for _ in range(16)))
    assert set(tokens) == {"token-1"}
    assert provider.held() == "token-1"


async def test_a_task_that_gives_up_leaves_the_fetching_to_the_others() -> None:
    go = asyncio.Event()

    async def fetch() -> Fetched:
        await go.wait()
        return "t"

    provider = AsyncTokenProvider(fetch)
    first, second = (asyncio.ensure_future(provider.token()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go.set()
    assert await second == "t"


async def test_tasks_never_wait_for_a_refresh_before_the_end() -> None:
    clock, issuer = Clock(), Issuer()
    provider = AsyncTokenProvider(issuer.fetch_async, clock=clock)
    await provider.token()
    clock.now += 550
    assert provider.held() == "token-1"
    assert provider._fetching is not None
    await provider._fetching
    assert provider.held() == "token-2"


async def test_tasks_too_keep_the_old_token_where_the_issuer_is_down() -> None:
    clock, issuer = Clock(), Issuer()
    provider = AsyncTokenProvider(issuer.fetch_async, clock=clock)
    await provider.token()
    issuer.is_down = True
    clock.now += 550
    assert provider.held() == "token-1"
    assert provider._fetching is not None
    await provider._fetching
    assert provider._fetching is None
    assert provider.held() == "token-1"
    clock.now += 50
    with pytest.raises(AuthenticationError):
        await provider.token()


def test_a_provider_outlives_its_event_loop() -> None:
    issuer = Issuer()
    provider = AsyncTokenProvider(issuer.fetch_async)

    async def leave() -> None:
        provider._begin()

    asyncio.run(leave())
    assert asyncio.run(provider.token()) == "token-1"
