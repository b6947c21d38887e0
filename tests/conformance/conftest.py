"""One suite for every engine that a worker can have.

Where vLLM is not installed its half is left out; `make test-vllm` runs it.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from miao_worker.engine.config import EngineConfig
from miao_worker.engine.protocol import EngineSettings, ServingEngine
from miao_worker.engine.types import (
    EngineStats,
    FinishReason,
    SamplingParams,
    SequenceRequest,
    TokenLogprobs,
)
from miao_worker.engine_kinds import LoadedEngine, kind_of
from miao_worker.vllm_engine.config import VllmConfig
from tests.integration.conftest import save_llama

HAS_VLLM = importlib.util.find_spec("vllm") is not None
NO_VLLM = "vLLM is not installed here; make test-vllm runs this"
KINDS = ["miao", "vllm"]

MAX_LENGTH = 160
MAX_SEQUENCES = 8
BLOCK_SIZE = 32
CAPACITY = 12 * BLOCK_SIZE  # tokens: fewer than so many sequences may have
_TOKEN_BYTES = 2 * 2 * 2 * 32 * 4  # layers, keys and values, heads, head size, float32


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "vllm" in item.name:  # it warns of itself
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that both engines take: vLLM's CPU attention wants heads of 32."""
    folder = tmp_path_factory.mktemp("conformance") / "tiny"
    return save_llama(folder, 11, hidden_size=64, head_dim=32, initializer_range=0.3)


@pytest.fixture(scope="session")
def model(model_folder: Path) -> PreTrainedModel:
    """The same in transformers."""
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        model_folder, dtype=torch.float32
    )
    return loaded.eval()


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "vllm" and not HAS_VLLM:
        pytest.skip(NO_VLLM)
    return str(request.param)


def settings_of(kind: str, folder: Path) -> EngineSettings:
    """Little memory and few rows, so that sequences wait and give way."""
    common: dict[str, Any] = {
        "model": str(folder),
        "dtype": "float32",
        "block_size": BLOCK_SIZE,
        "max_model_length": MAX_LENGTH,
        "max_sequences": MAX_SEQUENCES,
        "max_batch_tokens": 64,
        "num_threads": 1,
    }
    if kind == "vllm":
        spare = BLOCK_SIZE  # vLLM keeps a block for itself
        cache_bytes = (CAPACITY + spare) * _TOKEN_BYTES
        return VllmConfig(**common, cache_bytes=cache_bytes, options={"enforce_eager": True})
    return EngineConfig(**common, cache_bytes=CAPACITY * _TOKEN_BYTES, device="cpu")


@pytest.fixture(scope="session")
def settings(kind: str, model_folder: Path) -> EngineSettings:
    return settings_of(kind, model_folder)


@pytest.fixture(scope="session")
def loaded(settings: EngineSettings) -> LoadedEngine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind_of(settings).load(settings, "tiny", None)


@pytest.fixture
def engine(loaded: LoadedEngine) -> Iterator[ServingEngine]:
    """The engine, which every test leaves empty."""
    while loaded.engine.has_unfinished:  # of a test that failed
        loaded.engine.step()
    yield loaded.engine
    assert not loaded.engine.has_unfinished
    stats = loaded.engine.step().stats
    assert (stats.num_running, stats.num_waiting) == (0, 0)
    assert stats.num_free_blocks == stats.num_blocks


@pytest.fixture(scope="session")
def reference(model_folder: Path) -> ServingEngine:
    """Miao's engine on torch's operations: what a sampled answer is."""
    config = settings_of("miao", model_folder)
    assert isinstance(config, EngineConfig)
    plain = replace(config, cpu_kernels=False, cache_bytes=None)
    return kind_of(plain).load(plain, "tiny", None).engine


@dataclass
class Said:
    """All that an engine has reported of a sequence, checked as it came."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    scores: list[TokenLogprobs] = field(default_factory=list)
    reason: FinishReason | None = None
    error: str | None = None
    num_cached_tokens: int | None = None


def collect(
    engine: ServingEngine,
    said: dict[str, Said],
    until: Callable[[EngineStats], bool] = lambda _: False,
) -> None:
    """Step until nothing is left to do, or enough."""
    while engine.has_unfinished:
        step = engine.step()
        for output in step.outputs:
            mine = said[output.sequence_id]
            assert mine.reason is None, "nothing comes after the end"
            if output.prompt_logprobs:
                assert not mine.token_ids, "scores come before the first token"
            if output.num_cached_tokens is not None:
                assert not mine.token_ids
                mine.num_cached_tokens = output.num_cached_tokens
            mine.token_ids += output.token_ids
            mine.logprobs += output.logprobs or ()
            mine.scores += output.prompt_logprobs
            mine.reason, mine.error = output.finish_reason, output.error
            assert (mine.reason is FinishReason.ERROR) == (mine.error is not None)
        if until(step.stats):
            return


def run(engine: ServingEngine, requests: Iterable[SequenceRequest]) -> dict[str, Said]:
    """Add them all, and run until each has ended."""
    said = {}
    for request in requests:
        said[request.sequence_id] = Said()
        engine.add(request)
    collect(engine, said)
    assert all(each.reason is not None for each in said.values())
    return said


def prompt_of(index: int, length: int) -> tuple[int, ...]:
    """Some tokens, none of them special."""
    return tuple((index * 37 + place * place * 11 + place) % 300 + 5 for place in range(length))


def request_of(
    name: str, prompt: tuple[int, ...], output: Iterable[int] = (), **options: Any
) -> SequenceRequest:
    """Greedy and of 24 tokens, but for what `options` say of it."""
    grammar = options.pop("grammar", None)
    cache_scope = options.pop("cache_scope", b"")
    score_from = options.pop("score_from", 1)
    wanted = {"max_tokens": 24, "seed": 5, "temperature": 0.0} | options
    return SequenceRequest(
        name,
        prompt,
        SamplingParams(**wanted),
        output_token_ids=tuple(output),
        grammar=grammar,
        cache_scope=cache_scope,
        score_from=score_from,
    )


def greedy(model: PreTrainedModel, prompt: tuple[int, ...], num_tokens: int) -> list[int]:
    """What transformers says, whatever ends there would be."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=num_tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()  # type: ignore[no-any-return]
