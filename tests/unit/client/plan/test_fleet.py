"""What holds in every simulated fleet, and what its events do."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest

from miao_client.bench.loads import Arrival
from miao_client.plan.autoscaling import Autoscaler, Autoscaling
from miao_client.plan.errors import PlanError
from miao_client.plan.fleet import Failure, Fleet, FleetSettings
from miao_client.plan.load import Profile, lengths, pairs_of
from miao_client.plan.question import Load
from miao_client.plan.request import Request

BUSY = ("uniform:1-120", "uniform:1-60", 80.0)
STORM = {
    "failures": (Failure(20.0), Failure(40.0, 2), Failure(60.0, 1, math.inf)),
    "autoscaling": Autoscaling(1, 6, 4.0, poll_seconds=5.0, hold_seconds=10.0),
    "failure_hours": 0.02,
    "drain_seconds": 1.0,
    "backlog_limit": 40,
    "queue_timeout": 20.0,
}


def counted(outcome):
    return outcome.completed + outcome.refused + outcome.unfit + outcome.expired


@pytest.mark.parametrize("seed", range(4))
def test_every_request_ends_exactly_once_whatever_fails(engine, simulate, seed):
    outcome = simulate(engine, 3, 12.0, *BUSY, **STORM, seed=seed)
    assert counted(outcome) == outcome.arrived
    assert outcome.unfinished == 0
    assert outcome.taken_over > 0
    assert outcome.failures > 4


@pytest.mark.parametrize("seed", range(3))
def test_a_request_says_each_of_its_tokens_once(engine, seed):
    drawn = [Request(n, 0.11 * n, 1 + 7 * n % 90, 1 + 11 * n % 50) for n in range(300)]

    class Listening(Fleet):
        tokens = 0

        def began(self, request, now):
            super().began(request, now)
            Listening.tokens += 1

        def gaps(self, seconds, count):
            super().gaps(seconds, count)
            Listening.tokens += count

    settings = FleetSettings(2, failures=(Failure(5.0), Failure(17.0)), seed=seed)
    outcome = Listening(engine, settings, iter(drawn)).run()
    moved = sum(request.attempts - 1 for request in drawn)
    assert outcome.completed == 300
    assert moved > 0
    assert outcome.output_in_time == sum(request.output_tokens for request in drawn)
    assert all(request.said == request.output_tokens for request in drawn)


def test_no_token_comes_before_its_step_could_have_ended(engine):
    drawn = [Request(n, 0.05 * n, 1 + 13 * n % 120, 1 + 5 * n % 40) for n in range(200)]
    ends: dict[Request, float] = {}

    class Listening(Fleet):
        def ended(self, request, now):
            super().ended(request, now)
            ends[request] = now + self.delay

    Listening(engine, FleetSettings(2), iter(drawn)).run()
    least_step = engine.step.base
    delays = engine.delays.accept + engine.delays.claim + engine.delays.deliver
    for request in drawn:
        steps = math.ceil(request.prompt_tokens / engine.limits.max_batch_tokens)
        assert request.first >= request.arrived + delays + steps * least_step
        rest = (request.output_tokens - 1) * least_step
        assert ends[request] >= request.first + rest - 1e-9


def test_a_lone_request_takes_the_sum_of_its_parts(engine):
    (request,) = drawn = [Request(0, 1.0, 32, 5)]
    outcome = Fleet(engine, FleetSettings(1), iter(drawn)).run()
    prefill, step = 0.02 + 32e-4, 0.02 + 1e-4
    assert request.first == pytest.approx(1.0 + 0.002 + 0.003 + prefill + 0.001)
    assert outcome.e2e.mean == pytest.approx(0.006 + prefill + 4 * step)


def test_the_seed_decides_everything(engine, simulate):
    first, again, other = (
        simulate(engine, 3, 12.0, *BUSY, **STORM, seed=seed) for seed in (1, 1, 2)
    )
    plain = [(o.completed, o.ttft.total, o.itl.total, o.worker_seconds) for o in (first, again)]
    assert plain[0] == plain[1]
    assert [asdict(m) for m in first.moments] == [asdict(m) for m in again.moments]
    assert other.ttft.total != first.ttft.total


def test_who_loses_a_worker_is_silent_for_a_lease_and_goes_on_at_the_next_token(engine):
    request = Request(0, 0.0, 40, 200)
    settings = FleetSettings(2, failures=(Failure(1.0, 2, 0.0),), lease_seconds=3.0)
    outcome = Fleet(engine, settings, iter([request])).run()
    assert outcome.failures == 2
    assert outcome.taken_over == 1
    assert request.attempts == 2
    assert request.said == 200
    # Up to a sixth of the lease had passed, a look for ended leases takes up to 0.4 s.
    assert 2.4 < request.longest_gap < 3.6
    # Nothing is computed twice but keys and values: the answer is as long as ever, later.
    assert outcome.e2e.max == pytest.approx(200 * 0.0201 + request.longest_gap, abs=0.1)


def test_with_nobody_left_what_is_open_stays_open(engine):
    settings = FleetSettings(1, failures=(Failure(1.0, 1, math.inf),))
    outcome = Fleet(engine, settings, iter([Request(0, 0.0, 40, 200), Request(1, 2.0, 4, 2)])).run()
    assert (outcome.completed, outcome.unfinished) == (0, 2)


def test_a_fleet_of_none_comes_up_when_there_is_work_and_goes_when_there_is_none(engine):
    pairs = pairs_of(lengths("", "20"), lengths("", "10"))
    load = Load(Profile.constant(1.0), pairs, 400.0, trace=(Arrival(50.0), Arrival(51.0)))
    rule = Autoscaling(0, 4, 4.0, poll_seconds=15.0, idle_seconds=60.0)
    settings = FleetSettings(0, autoscaling=rule)
    outcome = Fleet(engine, settings, load.requests(0, 16), 400.0).run()
    assert outcome.completed == 2
    # Seen at the poll at 60 s, ready 10 s later.
    assert outcome.ttft.max == pytest.approx(70.0 - 50.0, abs=0.3)
    # From 60 s on until it was idle for a minute, up to a poll more.
    assert 60.0 <= outcome.worker_seconds < 100.0


def test_workers_follow_a_load_that_doubles(engine, simulate):
    rule = Autoscaling(1, 20, 4.0, poll_seconds=15.0, hold_seconds=60.0)
    quiet = simulate(engine, 1, 2.0, "20", "40", 240.0, autoscaling=rule, warmup=120.0)
    busy = simulate(engine, 1, 8.0, "20", "40", 240.0, autoscaling=rule, warmup=120.0)
    assert busy.worker_seconds > 1.5 * quiet.worker_seconds


def test_kubernetes_rule_by_its_cases():
    scaler = Autoscaler(Autoscaling(1, 100, 10.0, hold_seconds=300.0))
    assert scaler.wants(0.0, 43, 4) == 4  # within a tenth of the target
    assert scaler.wants(15.0, 100, 4) == 8  # at most twice as many
    assert scaler.wants(30.0, 500, 40) == 50
    assert scaler.wants(45.0, 100, 50) == 50  # held: it wanted as many half a minute ago
    assert scaler.wants(360.0, 100, 50) == 10
    assert scaler.wants(9999.0, 0, 10) == 1


def test_what_does_not_fit_is_refused_and_the_rest_is_served(engine):
    drawn = [Request(0, 0.0, 250, 40), Request(1, 0.1, 40, 4)]
    outcome = Fleet(engine, FleetSettings(1), iter(drawn)).run()
    assert (outcome.completed, outcome.unfit) == (1, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "--workers must be at least 1, not 0."),
        ({"workers": 1, "failure_hours": 0.0}, "--failure-hours must be above 0, not 0."),
        ({"workers": 1, "lease_seconds": -1.0}, "lease_seconds must be 0 or more, not -1."),
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused(settings, words):
    with pytest.raises(PlanError) as refused:
        FleetSettings(**settings)
    assert str(refused.value) == words


def test_a_step_that_takes_no_time_is_refused(engine):
    with pytest.raises(PlanError, match="must take some time"):
        replace(engine, step=replace(engine.step, base=0.0, hinges=()))
