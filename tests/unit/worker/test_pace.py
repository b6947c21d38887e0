"""A worker says how fast it is only where it was seen at its limit."""

from __future__ import annotations

from miao_worker.pace import Pace


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def full(pace: Pace, clock: Clock, tokens: int) -> None:
    """A window of two seconds with a full batch."""
    for _ in range(5):
        pace.tick(is_full=True)
        clock.now += 0.5
        pace.note_tokens(tokens // 4)


def test_nothing_is_said_before_enough_was_seen() -> None:
    clock = Clock()
    pace = Pace(clock)
    full(pace, clock, 400)
    assert pace.words() is None
    for _ in range(5):
        pace.note_end(25, 100)
    assert pace.words() == (200.0, 0.25)


def test_a_batch_with_room_says_nothing_of_what_could_be() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(5):
        pace.note_end(1, 1)
    for tick in range(50):
        pace.tick(is_full=tick % 3 > 0)
        clock.now += 0.5
        pace.note_tokens(10)
    assert pace.words() is None


def test_the_fastest_that_was_seen_lately_counts() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(5):
        pace.note_end(1, 1)
    full(pace, clock, 800)
    full(pace, clock, 400)
    assert pace.words() == (400.0, 1.0)
    clock.now += 100
    full(pace, clock, 400)
    clock.now += 30
    pace.tick(is_full=False)
    rate = pace.words()
    assert rate is not None
    assert rate[0] < 400
    clock.now += 200
    pace.tick(is_full=False)
    assert pace.words() is None
