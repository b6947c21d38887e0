"""From measurements to a calibration, and back from its file."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from random import Random

import pytest

from miao_client.plan import calibration as calibrations
from miao_client.plan import fitting, samples
from miao_client.plan.calibration import Calibration, Delays, Limits
from miao_client.plan.errors import PlanError
from miao_client.plan.fleet import Fleet, FleetSettings
from miao_client.plan.request import Request
from miao_client.plan.step_time import StepClock, StepTime, StepWork

TRUE = StepTime(base=0.02, hinges=((32, 2e-4),), row=1e-4, context=3e-7, chunk=1e-3, attention=4e-8)


def drawn_work(random: Random) -> StepWork:
    rows, prompt = random.randint(0, 32), random.choice([0, 0, random.randint(1, 900)])
    context = rows * random.randint(10, 900)
    return StepWork(rows, context, int(prompt > 0), prompt, prompt * (prompt + 1) / 2)


def test_a_fit_foretells_steps_that_it_has_not_seen():
    random = Random(4)
    works = [drawn_work(random) for _ in range(500)]
    measured = samples.Measured(
        samples=[
            samples.Sample(work, TRUE.seconds(work) * random.uniform(0.9, 1.1))
            for work in works
            if work.tokens
        ]
    )
    found = fitting.fit(measured, Limits()).step
    for work in (drawn_work(random) for _ in range(200)):
        assert found.seconds(work) == pytest.approx(TRUE.seconds(work), rel=0.06)


def test_noise_neither_speeds_up_nor_slows_down():
    step = replace(TRUE, noise=fitting._noise([0.8, 0.9, 1.0, 1.0, 1.05, 1.25] * 20))
    clock = StepClock(step, Random(1))
    mean = sum(clock.seconds(4, 100, 0, 0, 0.0) for _ in range(20_000)) / 20_000
    assert mean == pytest.approx(TRUE.seconds(StepWork(4, 100)), rel=0.01)


def test_the_clock_takes_as_long_as_the_formula():
    work = drawn_work(Random(7))
    clock = StepClock(TRUE, Random(1))
    parts = (work.rows, work.context, work.chunks, work.prompt_tokens, work.pairs)
    assert clock.seconds(*parts) == pytest.approx(TRUE.seconds(work))


def test_no_coefficient_is_below_zero():
    rows = [[1.0, float(x)] for x in range(10)]
    assert fitting.least_squares(rows, [10.0 - x for x in range(10)])[1] == 0.0
    base, slope = fitting.least_squares(rows, [2.0 + 3.0 * x for x in range(10)])
    assert (base, slope) == (pytest.approx(2.0, abs=1e-3), pytest.approx(3.0, abs=1e-3))


class Recording(Fleet):
    """A fleet that remembers what its callers saw, as `miao bench --records` writes it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.times: dict[Request, list[float]] = {}
        self.ends: dict[Request, float] = {}

    def began(self, request, now):
        super().began(request, now)
        self.times[request] = [now + self.delay]

    def ended(self, request, now):
        super().ended(request, now)
        self.ends[request] = now + self.delay

    def _end(self, worker):
        decoding = [r for r in worker.batch.running if r not in worker.batch.prefilling]
        super()._end(worker)
        for request in decoding:
            self.times[request].append(self._now + self.delay)


def records(calibration: Calibration, requests: list[Request]) -> list[dict[str, object]]:
    fleet = Recording(calibration, FleetSettings(1), iter(requests))
    fleet.run()
    return [
        {
            "intended": request.arrived,
            "sent": request.arrived,
            "ended": fleet.ends[request],
            "ttft": times[0] - request.arrived,
            "itl": [b - a for a, b in itertools.pairwise(times)],
            "queued": request.claimed - request.arrived,
            "input_tokens": request.prompt_tokens,
            "cached_input_tokens": 0,
            "output_tokens": request.output_tokens,
            "failure": None,
        }
        for request, times in fleet.times.items()
    ]


@pytest.fixture
def report(tmp_path):
    """A file as `miao bench --json FILE --records` writes it, of a worker that is known."""
    delays = Delays(accept=0.004, claim=0.003, deliver=0.004)
    calibration = Calibration("known", TRUE, Limits(max_sequences=16), delays)
    random = Random(3)
    busy = [Request(n, 0.12 * n, random.randint(1, 400), random.randint(2, 40)) for n in range(150)]
    alone = [Request(n, 30.0 * n, random.randint(1, 400), 4) for n in range(12)]
    points = [{"records": records(calibration, part)} for part in (busy, alone)]
    path = tmp_path / "bench.json"
    model = {"name": "known", "max_model_length": 2048}
    path.write_text(json.dumps({"format": 1, "model": model, "points": points}))
    return path


def test_the_records_of_a_benchmark_show_the_steps(report):
    measured = samples.read([report], Limits(max_sequences=16))
    assert len(measured.samples) > 500
    assert sum(sample.work.chunks > 0 for sample in measured.samples) > 30
    for sample in measured.samples:
        assert sample.seconds == pytest.approx(TRUE.seconds(sample.work), rel=1e-3)


def test_the_records_of_a_benchmark_make_a_calibration(report, tmp_path):
    limits = Limits(max_sequences=16)
    found = fitting.fit(samples.read([report], limits), limits)
    work = StepWork(8, 2_000, 1, 200, 200 * 201 / 2)
    assert found.step.seconds(work) == pytest.approx(TRUE.seconds(work), rel=0.05)
    delays = found.delays
    assert delays.accept + delays.claim + delays.deliver == pytest.approx(0.011, abs=0.003)
    assert found.limits.max_model_length == 2048
    assert found.sources["step"] == "measured"
    assert found.sources["start_seconds"] == "assumed"
    calibrations.write(found, tmp_path / "worker.json")
    assert calibrations.read(tmp_path / "worker.json") == found


def test_records_are_needed(report):
    document = json.loads(report.read_text())
    for point in document["points"]:
        del point["records"]
    report.write_text(json.dumps(document))
    with pytest.raises(PlanError, match="with --records"):
        samples.read([report], Limits())


def test_too_few_steps_are_no_measurement():
    with pytest.raises(PlanError, match="a fit needs 30 steps at least, and 0 were found"):
        fitting.fit(samples.Measured(), Limits())


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "a calibration must be a JSON object."),
        ({"format": 2}, '"format" must be 1, not 2.'),
        ({"format": 1}, '"step.base" must be there'),
        ({"format": 1, "step": {"base": -1}}, "step must be at least 0 and finite, not -1."),
        ({"format": 1, "step": {"base": 0.1, "rows": 1}}, "\"step\" has no field 'rows'"),
        (
            {"format": 1, "step": {"base": 0.1}, "limits": {"max_sequences": 0}},
            "limits.max_sequences must be at least 1",
        ),
        ({"format": 1, "step": {"base": "x"}}, "\"step.base\" must be a number, not 'x'."),
    ],
)
def test_a_calibration_that_makes_no_sense_names_the_field(document, words):
    with pytest.raises(PlanError) as refused:
        calibrations.of_document(document)
    assert words in str(refused.value)
