"""`miao plan` as people call it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from miao_client.cli import app
from miao_client.plan import calibration as calibrations
from miao_client.plan.errors import PlanError
from miao_client.plan.load import Profile, lengths, read_profile
from miao_client.plan.sizing import fewest


@pytest.fixture
def worker(engine, tmp_path):
    path = tmp_path / "worker.json"
    calibrations.write(engine, path)
    return str(path)


LENGTHS = ["--input-tokens", "20", "--output-tokens", "20"]


def test_the_fewest_workers_are_found_and_one_fewer_is_not_enough(worker, tmp_path, capsys):
    result = tmp_path / "plan.json"
    load = ["--rate", "30", "--seconds", "60", *LENGTHS]
    goal = ["--slo-ttft", "0.5", "--slo-itl", "0.1"]
    asked = ["--price", "2", "--with-failure", "--json", str(result)]
    assert app.run(["plan", "size", worker, *load, *goal, *asked]) == 0
    shown = capsys.readouterr().out
    (size,) = json.loads(result.read_text())["sizes"]
    workers = size["workers"]
    assert f" {workers} " in shown
    assert "step: assumed" in shown
    assert size["ttft"]["p99"] <= 0.5
    assert size["cost"]["per_hour"] == pytest.approx(2 * workers)
    assert size["with_a_failure"]["taken_over"] > 0
    status = ["plan", "run", worker, "--workers", str(workers), *load, *goal]
    assert app.run(status) == 0
    status[4] = str(workers - 1)
    assert app.run(status) == 1
    assert "The goal is missed: ttft p99" in capsys.readouterr().out


def test_a_slice_stands_for_a_large_fleet(worker, tmp_path):
    result = tmp_path / "plan.json"
    load = ["--rate", "400", "--seconds", "20", *LENGTHS, "--json", str(result)]
    assert app.run(["plan", "run", worker, "--workers", "80", "--slice", "20", *load]) == 0
    run = json.loads(result.read_text())["run"]
    assert run["simulated"] == {"workers": 4, "of": 80, "seconds": 15.0}
    assert run["requests_per_second"] == pytest.approx(400, rel=0.15)
    assert run["arrived"] < 400
    assert run["most_workers"] == 80


def test_a_day_with_scaling_and_a_failure_is_drawn(worker, tmp_path, capsys):
    profile = tmp_path / "day.jsonl"
    points = [(0, 1), (300, 12), (600, 1)]
    profile.write_text("".join(json.dumps({"at": a, "rate": r}) + "\n" for a, r in points))
    plot = tmp_path / "day.svg"
    scaling = ["--autoscale", "1:6", "--autoscale-target", "5", "--autoscale-hold", "30"]
    command = ["plan", "run", worker, "--profile", str(profile), *LENGTHS, *scaling]
    assert app.run([*command, "--fail", "300:1:20", "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    assert "1 workers died" in shown
    assert "<svg" in plot.read_text()


def test_a_worker_can_be_started_in_another_way(worker, tmp_path, capsys):
    result = tmp_path / "plan.json"
    load = ["--rate", "5", "--seconds", "20", *LENGTHS, "--json", str(result)]
    changed = ["--max-sequences", "1", "--max-batch-tokens", "7", "--start-seconds", "3"]
    assert app.run(["plan", "run", worker, "--workers", "4", *load, *changed]) == 0
    found = json.loads(result.read_text())
    assert found["run"]["mean_rows"] < 1
    assert found["calibration"]["limits"]["max_batch_tokens"] == 7
    assert "limits: as stated" in capsys.readouterr().out


def test_the_examples_of_the_documents_are_read():
    folder = Path(__file__).parents[4] / "docs" / "examples"
    assumed = calibrations.read(folder / "h100-llama-3-8b-assumed.json")
    assert "assumed" in assumed.source("step")
    assert read_profile(folder / "day.jsonl").seconds == 86_400


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["run", "--workers", "1"], "exactly one of --rate, --profile or --arrivals."),
        (["run", "--workers", "0", "--rate", "1"], "--workers must be at least 1, not 0."),
        (["run", "--rate", "1", "--fail", "soon"], "--fail must be SECOND"),
        (["run", "--rate", "1", "--autoscale", "4"], "--autoscale must be LEAST:MOST"),
        (["run", "--rate", "1", "--autoscale", "4:2"], "0 <= LEAST <= MOST"),
        (["run", "--rate", "0"], "--rate must be above 0"),
        (["run", "--rate", "1", "--slice", "9"], "--slice must be from 1"),
        (["run", "--rate", "1", "--input-tokens", "many"], "--input-tokens must be a number"),
        (["run", "--rate", "1", "--output-tokens", "uniform:9-2"], "--output-tokens must be"),
        (["run", "--rate", "1", "--cached-share", "1"], "--cached-share must be at least 0"),
        (["run", "--rate", "1", "--max-sequences", "0"], "limits.max_sequences must be at"),
        (["size", "--rate", "1"], "Say what callers must get"),
        (["size", "--rate", "1,x"], "--rate must be numbers"),
        (["size", "--rate", "40", "--slo-ttft", "0.001"], "No number of workers is enough"),
        (["size", "--rate", "1", "--json", "/nowhere/x.json"], "--json: there is no folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(worker, options, words, capsys):
    command = [options[0], worker, *options[1:], "--seconds", "5"]
    if "--workers" not in options and options[0] == "run":
        command += [] if "--autoscale" in options else ["--workers", "4"]
    assert app.run(["plan", *command]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert "\n" not in said


def test_a_missing_calibration_is_named(capsys, tmp_path):
    assert app.run(["plan", "run", str(tmp_path / "none.json"), "--rate", "1"]) == 2
    assert "none.json cannot be read as a calibration" in capsys.readouterr().err


@pytest.mark.parametrize("enough", [1, 2, 7, 8, 9, 100, 137])
@pytest.mark.parametrize("least", [1, 8, 90])
def test_the_search_ends_at_the_edge(enough, least):
    found = fewest(lambda workers: [] if workers >= enough else ["too few"], least)
    assert enough <= found <= enough + enough // 100


def test_a_profile_is_followed_between_its_points():
    profile = Profile(((0.0, 10.0), (100.0, 30.0)))
    assert (profile.rate(50.0), profile.rate(500.0), profile.peak) == (20.0, 30.0, 30.0)


@pytest.mark.parametrize(
    ("text", "mean"),
    [("64", 64), ("uniform:10-30", 20), ("exponential:50", 50), ("normal:100:10", 100)],
)
def test_lengths_have_the_mean_that_was_asked_for(text, mean):
    draw, random = lengths("--input-tokens", text), Random(2)
    values = [draw(random) for _ in range(20_000)]
    assert min(values) >= 1
    assert sum(values) / len(values) == pytest.approx(mean, rel=0.03)


def test_a_lognormal_length_has_its_median_and_p99():
    draw, random = lengths("", "lognormal:100:900"), Random(2)
    values = sorted(draw(random) for _ in range(20_000))
    assert values[10_000] == pytest.approx(100, rel=0.04)
    assert values[19_800] == pytest.approx(900, rel=0.08)


def test_a_length_below_one_is_refused():
    with pytest.raises(PlanError, match="with at least 1 token"):
        lengths("--input-tokens", "0")
