"""Batches of like length: nothing is lost or doubled, nothing waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from miao_worker.engine.encoder.length_batches import LengthBatches

REQUESTS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), max_size=8)


def padded(batch: list[int]) -> int:
    return max(batch) * len(batch)


def test_inputs_of_like_length_go_together() -> None:
    waiting = LengthBatches(max_tokens=100, filled_tokens=1)
    waiting.add("a", [40, 5, 41, 6])
    waiting.add("b", [5, 39, 6, 90])
    batches = []
    while waiting:
        batches.append([entry.length for entry in waiting.take()])
    assert batches == [[40, 41], [5, 5, 6, 6], [90], [39]]


def test_a_small_batch_takes_what_is_unlike() -> None:
    waiting = LengthBatches(max_tokens=100, filled_tokens=30)
    waiting.add("a", [10, 2, 1])
    assert [entry.length for entry in waiting.take()] == [1, 2, 10]


def test_an_input_beyond_the_budget_goes_alone() -> None:
    waiting = LengthBatches(max_tokens=8, filled_tokens=8)
    waiting.add("a", [9, 9])
    assert len(waiting.take()) == 1
    assert len(waiting.take()) == 1


def test_a_request_that_leaves_takes_all_of_its_inputs_along() -> None:
    waiting = LengthBatches(max_tokens=10, filled_tokens=10)
    waiting.add("a", [5, 4])
    waiting.add("b", [5])
    waiting.remove("a")
    waiting.remove("a")
    assert [entry.key for entry in waiting.take()] == ["b"]
    assert waiting.take() == []


@given(REQUESTS, st.integers(1, 200), st.integers(1, 200))
def test_every_input_is_taken_once_and_every_batch_serves_the_oldest(
    requests: list[list[int]], max_tokens: int, filled_tokens: int
) -> None:
    waiting = LengthBatches(max_tokens, filled_tokens)
    missing = {}
    for number, lengths in enumerate(requests):
        waiting.add(str(number), lengths)
        missing[str(number)] = dict(enumerate(lengths))
    while waiting:
        oldest = next(key for key, inputs in missing.items() if inputs)
        batch = waiting.take()
        assert any(entry.key == oldest for entry in batch)
        assert len(batch) == 1 or padded([entry.length for entry in batch]) <= max_tokens
        for entry in batch:
            assert missing[entry.key].pop(entry.place) == entry.length
    assert not any(missing.values())
