"""When speculation goes on, rests and is tried again, by the cost of steps."""

from __future__ import annotations

from itertools import pairwise

import pytest

from miao_worker.engine.speculation.economy import Economy


def play(economy, num_steps, num_decodes=1, plain=1.0, speculative=1.5, tokens=2.0):
    """Steps as an engine takes them; which of them speculated."""
    taken = []
    for _ in range(num_steps):
        taken.append(economy.allows(num_decodes))
        if taken[-1]:
            economy.note_speculative(num_decodes, round(tokens * num_decodes), speculative)
        else:
            economy.note_plain(num_decodes, plain)
    return taken


def test_it_begins_with_plain_steps():
    assert play(Economy(), 6) == [False] * 3 + [True] * 3


def test_while_it_pays_it_goes_on_and_looks_at_a_plain_step_now_and_then():
    taken = play(Economy(), 300, tokens=2.0, speculative=1.5)
    assert taken[3:].count(False) == 297 // 65
    assert not any(a is b is False for a, b in pairwise(taken[3:]))


def test_where_it_costs_it_rests_longer_each_time_and_tries_again():
    taken = play(Economy(), 3000, tokens=1.2, speculative=1.5)
    runs, trials = [], 0
    for allowed in taken[3:]:
        if allowed:
            trials += 1
            runs.append(0)
        else:
            runs[-1] += 1
    assert trials / len(taken) < 0.02
    assert [n for n in runs if n][:5] == [32, 64, 128, 256, 512]


@pytest.mark.parametrize(("seconds", "pays"), [(1.9, True), (2.1, False)])
def test_it_pays_when_the_tokens_outweigh_the_seconds(seconds, pays):
    taken = play(Economy(), 40, tokens=2.0, speculative=seconds)
    assert all(taken[3:]) == pays


def test_it_comes_back_when_it_pays_again():
    economy = Economy()
    play(economy, 50, tokens=1.0)
    taken = play(economy, 100, tokens=3.0)
    assert all(taken[-20:])


def test_each_size_of_batch_is_weighed_by_itself():
    economy = Economy()
    play(economy, 40, num_decodes=1, tokens=2.0, speculative=1.2)
    play(economy, 40, num_decodes=32, tokens=2.0, speculative=3.0)
    assert economy.allows(1)
    assert not economy.allows(32)


def test_one_slow_plain_step_is_not_believed():
    economy = Economy()
    play(economy, 3, plain=1.0)
    economy.note_plain(1, 50.0)
    assert not all(play(economy, 20, tokens=1.2, speculative=1.5))


def test_the_first_trial_after_a_rest_pays_for_what_the_rest_has_missed():
    """A draft model that has not followed for a while catches up in it."""
    economy = Economy()
    play(economy, 3)
    economy.note_speculative(1, 1, 100.0)
    assert all(play(economy, 40, tokens=2.0, speculative=1.5))


def test_a_clock_that_stands_still_makes_speculation_free():
    assert all(play(Economy(), 40, plain=0.0, speculative=0.0)[3:])
