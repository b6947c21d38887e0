"""The encoder engine with a model that says how long its inputs are."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.encoder.engine import EncoderEngine
from miao_worker.engine.encoder.types import (
    EncoderInput,
    EncoderTask,
    EncodingOutput,
    EncodingRequest,
)
from miao_worker.engine.types import FinishReason, SamplingParams, SequenceRequest

POISON = 13  # of this token the model makes what is not a number


class MeasuringRunner:
    """Says (length, 1)."""

    task = EncoderTask.EMBED
    max_length = 10
    vocab_size = 20
    type_vocab_size = 2
    dimensions = 2
    normalizes = False

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def run(self, inputs: Sequence[EncoderInput]) -> list[Tensor]:
        self.batches.append([len(each.token_ids) for each in inputs])
        return [
            torch.tensor([torch.nan if POISON in each.token_ids else len(each.token_ids), 1.0])
            for each in inputs
        ]

    def scores(self, logits: Tensor) -> Tensor:
        return logits


def ask(key: str, *lengths: int, **changes: object) -> EncodingRequest:
    inputs = tuple(EncoderInput((1,) * n) for n in lengths)
    return EncodingRequest(key, EncoderTask.EMBED, inputs, **changes)  # type: ignore[arg-type]


def drain(engine: EncoderEngine) -> dict[str, EncodingOutput]:
    outputs: dict[str, EncodingOutput] = {}
    while engine.has_unfinished:
        for output in engine.step().outputs:
            assert isinstance(output, EncodingOutput)
            assert output.sequence_id not in outputs
            outputs[output.sequence_id] = output
    return outputs


@pytest.fixture
def runner() -> MeasuringRunner:
    return MeasuringRunner()


@pytest.fixture
def engine(runner: MeasuringRunner) -> EncoderEngine:
    return EncoderEngine(EngineConfig("m", max_batch_tokens=16), runner)


def test_rows_come_in_the_order_of_the_request(engine: EncoderEngine) -> None:
    engine.add(ask("a", 3, 9, 1, 9))
    engine.add(ask("b", 9))
    outputs = drain(engine)
    assert [struct.unpack("<2f", row)[0] for row in outputs["a"].rows] == [3, 9, 1, 9]
    assert [struct.unpack("<2f", row)[0] for row in outputs["b"].rows] == [9]
    assert engine.step().stats.num_running == 0


def test_what_is_cancelled_is_neither_computed_nor_reported(
    engine: EncoderEngine, runner: MeasuringRunner
) -> None:
    engine.add(ask("a", *[9] * 5))
    engine.add(ask("b", 9))
    engine.step()
    engine.cancel("a")
    assert list(drain(engine)) == ["b"]
    assert sum(map(len, runner.batches)) == 2


def test_one_whose_numbers_are_none_fails_alone(engine: EncoderEngine) -> None:
    poisoned = (EncoderInput((POISON,)), EncoderInput((POISON, 1)), EncoderInput((1,) * 10))
    engine.add(EncodingRequest("a", EncoderTask.EMBED, poisoned))
    engine.add(ask("b", 1))
    outputs = drain(engine)
    assert (outputs["a"].finish_reason, outputs["a"].error) == (
        FinishReason.ERROR,
        "the model's output was not finite",
    )
    assert outputs["b"].finish_reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ask("a"), "no input"),
        (ask("a", 11), "11 tokens, not 1 to 10"),
        (ask("a", 0), "0 tokens, not 1 to 10"),
        (ask("a", 1, dimensions=3), "between 1 and 2"),
        (EncodingRequest("a", EncoderTask.CLASSIFY, (EncoderInput((1,)),)), "embed, not classify"),
        (EncodingRequest("a", EncoderTask.EMBED, (EncoderInput((20,)),)), "vocabulary of 20"),
        (EncodingRequest("a", EncoderTask.EMBED, (EncoderInput((1,), (2,)),)), "not below 2"),
        (EncodingRequest("a", EncoderTask.EMBED, (EncoderInput((1, 1), (1,)),)), "as many types"),
        (SequenceRequest("a", (1,), SamplingParams(1, 0)), "does not generate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_run_ends_with_a_sentence(
    engine: EncoderEngine, request_: EncodingRequest, words: str
) -> None:
    engine.add(request_)
    output = drain(engine)["a"]
    assert output.finish_reason is FinishReason.ERROR
    assert words in (output.error or "")


def test_dimensions_are_cut_before_they_are_scaled(engine: EncoderEngine) -> None:
    engine.add(ask("a", 7, dimensions=1, normalize=True))
    engine.add(ask("b", 3, normalize=True))
    outputs = drain(engine)
    assert struct.unpack("<f", outputs["a"].rows[0]) == (1.0,)
    assert struct.unpack("<2f", outputs["b"].rows[0]) == pytest.approx((0.9486833, 0.3162278))
