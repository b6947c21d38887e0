"""What a benchmark refuses before it begins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from miao_client.bench import plot
from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Arrival, Closed, Poisson, Traced
from miao_client.bench.settings import Settings, Slo, check_folder, loads_of

TRACE = Traced("t.jsonl", tuple(Arrival(float(at)) for at in range(5)))
NONE = "Say the load: exactly one of --concurrency, --rate or --arrivals."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loads": ()}, NONE),
        ({"requests": 1, "duration": 1.0}, "--requests and --duration exclude each other."),
        ({"requests": 0}, "--requests must be at least 1, not 0."),
        ({"warmup": -1}, "--warmup must be at least 0, not -1."),
        ({"input_tokens": 0}, "--input-tokens must be at least 1, not 0."),
        ({"output_tokens": 0}, "--output-tokens must be at least 1, not 0."),
        ({"duration": 0.0}, "--duration must be a number of seconds above 0, not 0."),
        (
            {"duration": float("nan")},
            "--duration must be a number of seconds above 0, not nan.",
        ),
        (
            {"slo": Slo(tpot=-1.0)},
            "--slo-tpot must be a number of seconds above 0, not -1.",
        ),
        (
            {"wait_when_busy": -1.0},
            "--wait-when-busy must be a number of seconds, 0 or more, not -1.",
        ),
        ({"loads": (Closed(0),)}, "--concurrency must be from 1 to 10,000, not 0."),
        ({"loads": (Closed(10_001),)}, "--concurrency must be from 1 to 10,000, not 10001."),
        (
            {"loads": (Closed(8),), "requests": 7},
            "--requests must be at least --concurrency, which is 8, not 7: some callers would "
            "never send.",
        ),
        (
            {"loads": (Poisson(0.0),)},
            "--rate must be above 0 and at most 100,000 requests a second, not 0.",
        ),
        (
            {"prompts": "shared-prefix"},
            "--prompts shared-prefix needs --shared-prefix-tokens.",
        ),
        ({"shared_prefix_tokens": 4}, "--shared-prefix-tokens needs --prompts shared-prefix."),
        (
            {"prompts": "shared-prefix", "shared_prefix_tokens": 128},
            "--shared-prefix-tokens must be at least 1 and less than --input-tokens, which is "
            "128, not 128.",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings(**{"loads": (Closed(1),)} | fields)
    assert str(refusal.value) == message


@pytest.mark.parametrize("ways", [(None, None, None), ([1], [1.0], None), ([1], None, TRACE)])
def test_exactly_one_way_names_the_load(ways: Any) -> None:
    with pytest.raises(SettingsError) as refusal:
        loads_of(*ways)
    assert str(refusal.value) == NONE


def test_several_loads_are_a_sweep() -> None:
    assert loads_of([1, 8], None, None) == (Closed(1), Closed(8))
    assert loads_of(None, [2.5], None) == (Poisson(2.5),)
    assert loads_of(None, None, TRACE) == (TRACE,)


def test_how_many_requests_a_load_has() -> None:
    loads = (Closed(1), Closed(64), Poisson(3.0), TRACE)

    def numbers(**fields: Any) -> list[int | None]:
        settings = Settings(loads, **fields)
        return [settings.num_requests(load) for load in loads]

    assert numbers() == [100, 256, 100, 5]
    assert numbers(requests=64) == [64, 64, 64, 5]
    assert numbers(duration=1.0) == [None, None, None, None]


def test_a_file_that_could_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    check_folder("--json", tmp_path / "new.json")
    with pytest.raises(SettingsError, match=r"--json: there is no folder .*/no"):
        check_folder("--json", tmp_path / "no" / "new.json")


def test_a_plot_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        plot.check(tmp_path / "plot.jpg")
    assert str(refusal.value) == "--plot must end in .png, .svg, .pdf, not plot.jpg."


def test_without_matplotlib_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError) as refusal:
        plot.check(Path("plot.png"))
    assert str(refusal.value) == (
        "--plot needs matplotlib, which comes with its extra: pip install 'miao[bench]'"
    )
