"""RQ's books: entries one by one, in order, and none lost for a Redis that does not answer."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from miao_worker.rq_bookkeeping import RqBookkeeping


@pytest.fixture
def books() -> RqBookkeeping:
    nothing: Any = None
    return RqBookkeeping(nothing, nothing)


def test_entries_are_made_one_by_one_in_order(books: RqBookkeeping) -> None:
    made: list[str] = []
    for name in ("a", "b", "c"):
        books.later(made.append, name)
    books.make_next()
    assert (made, books.num_waiting) == (["a"], 2)
    books.later(made.append, "d")
    books.catch_up()
    assert (made, books.num_waiting) == (["a", "b", "c", "d"], 0)


def test_a_round_ends_though_more_comes_all_the_time(books: RqBookkeeping) -> None:
    made: list[str] = []

    def more() -> None:
        made.append("claim")
        books.later(made.append, "later")

    for name in ("a", "b"):
        books.later(made.append, name)
    books.make_round(between=more)
    assert made == ["a", "claim", "b", "claim"]
    assert books.num_waiting == 2


def test_what_redis_does_not_take_waits_on_and_what_fails_is_left_out(
    books: RqBookkeeping, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([RedisConnectionError(), ValueError(), None])
    made: list[str] = []

    def entry(name: str) -> None:
        if (error := next(answers)) is not None:
            raise error
        made.append(name)

    books.later(entry, "a")
    books.later(entry, "b")
    with pytest.raises(RedisConnectionError):
        books.catch_up()
    assert books.num_waiting == 2
    books.catch_up()
    assert made == ["b"]
    assert "it is left out" in caplog.text
