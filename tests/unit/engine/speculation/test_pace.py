"""How many tokens a sequence is asked for, by its luck so far."""

from __future__ import annotations

from miao_worker.engine.speculation.pace import Pace


def test_it_asks_for_all_at_first_and_while_all_is_accepted():
    pace = Pace(8)
    for _ in range(3):
        assert pace.next_length() == 8
        pace.note(8, 8)


def test_it_shrinks_to_what_was_accepted_and_grows_again():
    pace = Pace(8)
    lengths = []
    for accepted in (2, 3, 6, 8):
        pace.note(pace.next_length(), accepted)
        lengths.append(pace.next_length())
    assert lengths == [3, 6, 8, 8]


def test_one_refusal_does_not_stop_it_and_many_do_ever_longer():
    pace = Pace(4)
    for _ in range(2):
        pace.note(pace.next_length(), 0)
        assert pace.next_length() == 1
    waits = []
    for _ in range(9):
        pace.note(1, 0)
        waits.append(0)
        while not pace.next_length():
            waits[-1] += 1
    assert waits == [1, 2, 4, 8, 16, 32, 64, 64, 64]


def test_luck_makes_it_patient_again():
    pace = Pace(4)
    for _ in range(5):
        pace.note(1, 0)
    while not pace.next_length():
        pass
    pace.note(1, 1)
    assert pace.next_length() == 2
    pace.note(2, 0)
    assert pace.next_length() == 1


def test_a_proposal_cut_short_does_not_count_as_a_limit():
    pace = Pace(8)
    pace.note(1, 1)
    assert pace.next_length() == 8
