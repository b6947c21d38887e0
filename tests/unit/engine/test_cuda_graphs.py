"""Graphs by size of batch, with a recorder that runs the recorded work again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miao_worker.engine.carried import Carried
from miao_worker.engine.cuda import attention
from miao_worker.engine.cuda.graphs import (
    CannotCaptureError,
    DecodeGraphs,
    graph_sizes,
    record_graphs,
)
from miao_worker.engine.paged_batch import PagedBatch

CPU = torch.device("cpu")
BLOCK_SIZE = 4
NUM_SLOTS = 40


class Recorder:
    """What CUDA does: the recorded work reads and writes the same memory at each replay."""

    def __init__(self):
        self.replayed = []

    def __call__(self, work):
        result = work()
        size = len(result)

        def replay():
            self.replayed.append(size)
            result.copy_(work())

        return replay, result


class Pool:
    """A forward pass that writes a line for each row's slot and sums what its table names."""

    def __init__(self):
        self.lines = torch.zeros(NUM_SLOTS + 1)

    def forward(self, token_ids, positions, step):
        rows = step.num_decodes
        assert step.slots.shape == step.lengths.shape == token_ids.shape == (rows,)
        inside = step.slots < NUM_SLOTS
        self.lines[step.slots[inside].long()] = token_ids[inside].float()
        width, logits = int(step.width), torch.zeros(rows, 3)
        for row, length in enumerate(step.lengths.tolist()):
            table = step.tables[row * width : (row + 1) * width]
            slots = [
                int(table[p // BLOCK_SIZE]) * BLOCK_SIZE + p % BLOCK_SIZE for p in range(length)
            ]
            logits[row, 0] = self.lines[slots].sum()
            logits[row, 1], logits[row, 2] = positions[row], length
        return logits


def batch(tables, lengths):
    tables, lengths = np.array(tables), np.array(lengths)
    positions = lengths - 1
    return PagedBatch(
        positions=positions,
        blocks=tables[np.arange(len(tables)), positions // BLOCK_SIZE],
        tables=tables,
        lengths=lengths,
        chunks=[],
        block_size=BLOCK_SIZE,
        dtype=torch.float32,
        device=CPU,
    )


@pytest.fixture
def pool():
    return Pool()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def graphs(pool, recorder):
    return DecodeGraphs(
        pool.forward, recorder, sizes=[1, 2, 4], max_blocks=3, num_slots=NUM_SLOTS, device=CPU
    )


def test_sizes_grow_by_powers_of_two_and_then_evenly():
    assert graph_sizes(1) == [1]
    assert graph_sizes(3) == [1, 2, 3]
    assert graph_sizes(64) == [1, 2, 4, 8, 16, 32, 64]
    assert graph_sizes(100) == [1, 2, 4, 8, 16, 32, 64, 96, 100]
    assert graph_sizes(9999)[-3:] == [384, 448, 512]
    assert len(graph_sizes(512)) == len(set(graph_sizes(512))) == 17


def test_the_least_graph_with_room_is_taken(graphs, recorder):
    for rows in (1, 2, 3, 4):
        logits = graphs.run(np.arange(rows), batch([[i] for i in range(rows)], [1] * rows), None)
        assert logits.shape == (rows, 3)
    assert recorder.replayed == [1, 2, 4, 4]


def test_a_batch_that_is_too_large_is_left_to_others(graphs, recorder):
    assert graphs.run(np.arange(5), batch([[i] for i in range(5)], [1] * 5), None) is None
    assert recorder.replayed == []


def test_each_row_has_its_own_numbers_and_padding_leaves_no_trace(graphs, pool):
    graphs.run(np.array([7, 8, 9, 5]), batch([[i, 0, 9] for i in range(4)], [1, 1, 1, 1]), None)
    pool.lines.zero_()
    pool.lines[8:13] = torch.tensor([1.0, 2, 3, 4, 5])
    logits = graphs.run(np.array([10, 20, 30]), batch([[2, 3], [5, 1], [6, 4]], [6, 5, 1]), None)
    assert logits.tolist() == [[1 + 2 + 3 + 4 + 5 + 10, 5, 6], [20, 4, 5], [30, 0, 1]]
    changed = {13: 10, 4: 20, 24: 30}
    assert {slot: int(pool.lines[slot]) for slot in changed} == changed
    assert pool.lines.count_nonzero() == 5 + 3, "rows of padding have written"


def test_a_wide_table_is_followed_by_a_narrow_one(graphs):
    graphs.run(np.array([1, 1]), batch([[0, 1, 2], [3, 4, 5]], [9, 9]), None)
    logits = graphs.run(np.array([6, 7]), batch([[7], [8]], [1, 1]), None)
    assert logits[:, 0].tolist() == [6, 7]


def test_tokens_that_only_the_device_knows_are_put_in_their_places(graphs):
    carried = Carried(drawn=torch.tensor([50, 60, 70]), rows=[2, 0], places=[0, 2])
    logits = graphs.run(np.array([0, 11, 0]), batch([[0], [1], [2]], [1, 1, 1]), carried)
    assert logits[:, 0].tolist() == [70, 11, 50]


def test_what_cannot_be_recorded_runs_without_graphs(caplog):
    def refuse(work):
        raise CannotCaptureError("it waits")

    found = record_graphs(
        lambda *_: torch.zeros(1), refuse, max_rows=4, max_blocks=2, num_slots=8, device=CPU
    )
    assert found is None
    assert "it waits" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_whole_model_decodes_by_graphs_as_without(tmp_path, monkeypatch):
    """Through Triton's interpreter: the runner's own forward pass on the static inputs."""
    pytest.importorskip("triton")
    from transformers import LlamaConfig, LlamaForCausalLM

    from miao_worker.engine.config import EngineConfig
    from miao_worker.engine.engine import Engine
    from miao_worker.engine.model_runner import load_runners
    from miao_worker.engine.types import SamplingParams, SequenceRequest

    monkeypatch.setattr(attention, "num_splits", lambda _: 2)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=97, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
                         max_position_embeddings=64, eos_token_id=None)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    base = {"device": "cpu", "dtype": "float32", "cpu_kernels": False, "max_sequences": 3}
    said = []
    for settings in ({}, {"attention": "triton", "overlap": True}):
        engine_config = EngineConfig(str(tmp_path), cache_bytes=1 << 16, **base, **settings)
        runner, _ = load_runners(engine_config)
        recorder = Recorder()
        runner.record_graphs(recorder)
        engine = Engine(engine_config, runner)
        for i, prompt in enumerate([(5, 6, 7), tuple(range(1, 21)), (9,), (40, 41)]):
            params = SamplingParams(max_tokens=3 + i, seed=i, temperature=0.7 * (i % 2))
            engine.add(SequenceRequest(str(i), prompt, params))
        tokens = {}
        while engine.has_unfinished:
            for output in engine.step().outputs:
                tokens[output.sequence_id] = tokens.get(output.sequence_id, ()) + output.token_ids
        said.append(tokens)
        assert bool(recorder.replayed) == bool(settings)
    assert said[0] == said[1]
    assert {1, 2, 3} == set(recorder.replayed)
