"""Addresses of Redis, and where among several a key lies."""

from __future__ import annotations

from collections import Counter

import pytest

from miao_queue.addresses import (
    RedisUrlError,
    SentinelAddress,
    Shard,
    ShardMap,
    ShardState,
    check_url,
    redact_url,
)
from miao_queue.connection import connect

KEYS = [f"key-{number}" for number in range(3000)]


def shards(**states: str) -> ShardMap:
    return ShardMap.parse(",".join(f"{n}:{s}=redis://{n}:6379/0" for n, s in states.items()))


def test_one_address_is_taken_as_it_is_commas_and_all() -> None:
    url = "redis://user:a,b=c@host:6379/0"
    assert ShardMap.parse(url).shards == (Shard("host:6379/0", url),)
    assert ShardMap.parse(f" {url} ").is_one


def test_several_addresses_have_names_and_states() -> None:
    text = "a=redis://one:1/0, unix:///run/valkey.sock?db=0\n c:draining=redis+sentinel://x,y/main"
    found = ShardMap.parse(text).shards
    assert [shard.name for shard in found] == ["a", "/run/valkey.sock?db=0", "c"]
    assert [shard.state for shard in found] == ["settled", "settled", "draining"]
    assert [shard.admits for shard in found] == [True, True, False]
    assert found[2].url == "redis+sentinel://x,y/main"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("http://host:1/secret", "must start with one of"),
        ("a=redis://one,a=redis://two", "two Redis have the name 'a'"),
        ("a:gone=redis://one", "can be settled, joining, new, draining, not 'gone'"),
        ("a:draining=redis://one,b:joining=redis://two", "admits anything"),
        ("redis+sentinel://one:26379", "NAME under which they watch"),
        ("redis+sentinel://one:secret/main", "must be HOST:PORT"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, words: str) -> None:
    with pytest.raises(RedisUrlError, match=words):
        check_url(text)


def test_a_connection_is_to_one() -> None:
    with pytest.raises(RedisUrlError, match="several addresses"):
        connect("redis://one:1/0,redis://two:1/0")
    client = connect("a=redis://one:1/0")
    assert client.connection_pool.connection_kwargs["host"] == "one"
    client.close()


def test_no_password_is_shown() -> None:
    url = "rediss+sentinel://u:secret@a:1,b:2/main/0?sentinel_password=secret&ssl_cert_reqs=none"
    shown = "rediss+sentinel://a:1,b:2/main/0?sentinel_password=&ssl_cert_reqs=none"
    assert redact_url(url) == shown
    assert redact_url("unix:///run/x.sock?db=0") == "unix:///run/x.sock?db=0"


def test_an_address_of_sentinels_says_how_to_connect_to_both() -> None:
    address = SentinelAddress.parse(
        "rediss+sentinel://user:pass%40word@a:1,[::1]:2,c/ma%20in/3"
        "?sentinel_username=s&sentinel_password=p&ssl_cert_reqs=none"
    )
    assert address is not None
    assert address.sentinels == (("a", 1), ("::1", 2), ("c", 26379))
    assert address.service == "ma in"
    assert address.options["username"] == "user"
    assert address.options["password"] == "pass@word"
    assert address.options["db"] == 3
    assert address.options["ssl"] is True
    assert address.sentinel_options == {
        "username": "s",
        "password": "p",
        "ssl": True,
        "ssl_cert_reqs": "none",
    }
    assert SentinelAddress.parse("redis://a:1/0") is None
    connect("redis+sentinel://u:p@a:1,b:2/main/0?sentinel_password=p").close()


def test_keys_are_spread_and_a_new_shard_takes_only_its_own() -> None:
    before, after = shards(a="settled", b="settled"), shards(a="settled", b="settled", c="new")
    places = Counter(before.candidates(key)[0].name for key in KEYS)
    assert min(places.values()) > len(KEYS) * 0.45
    for key in KEYS:
        was, now = before.candidates(key)[0].name, after.candidates(key)[0].name
        assert now in (was, "c")


@pytest.mark.parametrize("state", list(ShardState))
def test_what_any_other_map_of_the_change_placed_is_among_the_candidates(state: ShardState) -> None:
    """Two fronts know a shard in different states while a change goes round."""
    present = shards(a="settled", b="settled", c=state)
    others = [shards(a="settled", b="settled", c=other) for other in ShardState]
    others.append(shards(a="settled", b="settled"))
    for key in KEYS[:500]:
        candidates = [shard.name for shard in present.candidates(key)]
        if state is ShardState.SETTLED:
            assert len(candidates) == 1
            continue
        for other in others:
            place = other.candidates(key)[0]
            assert place.name in candidates


def test_the_first_candidate_admits_where_hardly_any_does() -> None:
    present = shards(a="draining", b="draining", c="new")
    for key in KEYS[:100]:
        candidates = present.candidates(key)
        assert candidates[0].name == "c"
        assert {shard.name for shard in candidates} == {"a", "b", "c"}
