"""When requests come."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import pytest

from miao_client.bench.arrivals import poisson, read_trace
from miao_client.bench.errors import SettingsError
from miao_client.bench.loads import Arrival


def test_poisson_gaps_are_exponential_with_the_rate() -> None:
    times = list(islice(poisson(4.0, Random(1)), 20_000))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert fmean(gaps) == pytest.approx(0.25, rel=0.03)
    assert pstdev(gaps) == pytest.approx(0.25, rel=0.05)  # as wide as its mean
    assert min(gaps) >= 0


def test_a_seed_decides_the_arrivals() -> None:
    def first(seed: int) -> list[float]:
        return list(islice(poisson(4.0, Random(seed)), 5))

    assert first(1) == first(1)
    assert first(1) != first(2)


def trace(folder: Path, text: str) -> Path:
    path = folder / "trace.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_trace_is_read(tmp_path: Path) -> None:
    text = '{"at": 0}\n\n{"at": 0.5, "input_tokens": 7, "output_tokens": 9}\n'
    read = read_trace(trace(tmp_path, text + '{"at": 0.5, "prompt": "你好"}'))
    assert read.label == "trace trace.jsonl"
    assert read.arrivals == (Arrival(0.0), Arrival(0.5, 7, 9), Arrival(0.5, prompt="你好"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{at: 1}", "this is not JSON: Expecting property name"),
        ("[1]", "this must be a JSON object."),
        ("{}", '"at" must be a number of seconds.'),
        ('{"at": true}', '"at" must be a number of seconds.'),
        ('{"at": -1}', '"at" must be at least 0 and finite.'),
        ('{"at": NaN}', '"at" must be at least 0 and finite.'),
        ('{"at": 0.5}', '"at" must not be less than 1.5, the one before.'),
        ('{"at": 2, "input_tokens": 0}', '"input_tokens" must be a whole number, at least 1.'),
        ('{"at": 2, "output_tokens": 1.5}', '"output_tokens" must be a whole number, at least 1.'),
        ('{"at": 2, "prompt": ""}', '"prompt" must be a text, a list of token ids, or a list'),
        ('{"at": 2, "prompt": [1, "a"]}', '"prompt" must be a text, a list of token ids'),
        ('{"at": 2, "prompt": [{"role": "user"}]}', '"prompt" must be a text, a list of'),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = trace(tmp_path, f'{{"at": 1.5}}\n\n{line}\n')
    with pytest.raises(SettingsError) as refusal:
        read_trace(path)
    assert str(refusal.value).startswith(f"{path}, line 3: {message}")


def test_a_trace_that_is_not_there_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.jsonl cannot be read"):
        read_trace(tmp_path / "no.jsonl")
    with pytest.raises(SettingsError, match="has no arrivals"):
        read_trace(trace(tmp_path, "\n"))
