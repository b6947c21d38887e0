"""Two models, one of them with two replicas, on one Redis behind one front: all real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from miao_client import Client, InvalidRequestError, UnavailableError
from miao_worker.stack import Stack, StackSettings

from .conftest import WORKER_OPTIONS


@pytest.fixture(scope="module")
def sibling(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shape, with other weights."""
    folder = tmp_path_factory.mktemp("models") / "sibling"
    model = LlamaForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(99)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pair(tiny_model: Path, sibling: Path) -> Iterator[Stack]:
    first = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    second = ["--model", str(sibling), *WORKER_OPTIONS]
    settings = StackSettings("127.0.0.1:0", first, more_workers=[first, second])
    stack = Stack(settings, lambda *_: None)
    stack.start()
    yield stack
    stack.stop()


def greedy(folder: Path, prompt: list[int], max_tokens: int) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    output = model.generate(
        torch.tensor([prompt]), max_new_tokens=max_tokens, do_sample=False, eos_token_id=None
    )
    return tuple(output[0, len(prompt) :].tolist())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_each_model_says_its_own_and_goes_by_itself(
    pair: Stack, tiny_model: Path, sibling: Path
) -> None:
    assert pair.models == ["tiny", "tiny", "sibling"]
    prompt = [10, 20, 30, 40]
    with Client(pair.address) as client, ThreadPoolExecutor(8) as pool:

        def call(model: str) -> tuple[int, ...]:
            stream = client.generate(
                prompt, model=model, max_tokens=20, temperature=0, ignore_eos=True
            )
            return stream.result().token_ids

        said = list(pool.map(call, ["tiny", "sibling"] * 4))
        assert said == [greedy(tiny_model, prompt, 20), greedy(sibling, prompt, 20)] * 4
        assert said[0] != said[1]
        with pytest.raises(InvalidRequestError, match="sibling, tiny"):
            client.generate(prompt).result()
        assert {m.name: m.num_workers for m in client.models()} == {"tiny": 2, "sibling": 1}

        pair._parts[-2].process.terminate()  # the sibling's; the front is the last
        wait_until(lambda: client.model("sibling").num_workers == 0)
        with pytest.raises(UnavailableError, match="sibling"):
            client.create(prompt, model="sibling", timeout=2.0)
        assert call("tiny") == said[0]
