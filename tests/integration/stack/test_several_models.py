"""Two models, one of them with two replicas, on one Redis behind one front: all real."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from miao_client import Client, InvalidRequestError, ModelNotFoundError, UnavailableError
from miao_worker.stack import Stack, StackSettings
from tests.forked_worker import ForkingStack

from .conftest import WORKER_OPTIONS, kill_worker_of

# peft asks a model of transformers for an attribute under its former name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


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
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the workers watch, with the adapter "poet" in it."""
    folder = tmp_path_factory.mktemp("adapters")
    put_adapter(tiny_model, folder / "poet", seed=1)
    return folder


def put_adapter(model: Path, folder: Path, seed: int) -> None:
    """Write an adapter aside and move it to its place, as an operator should."""
    base = LlamaForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(seed)
    adapted = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn_like(parameter)
    making = folder.parent / f".{folder.name}"
    adapted.save_pretrained(making)
    making.rename(folder)


@pytest.fixture(scope="module")
def pair(tiny_model: Path, sibling: Path, adapters: Path) -> Iterator[Stack]:
    first = ["--model", str(tiny_model), "--name", "tiny", *WORKER_OPTIONS]
    first += ["--adapter-folder", str(adapters), "--max-adapters", "1"]
    second = ["--model", str(sibling), *WORKER_OPTIONS]
    settings = StackSettings("127.0.0.1:0", first, more_workers=[first, second])
    stack = ForkingStack(settings, lambda *_: None)
    stack.start()
    yield stack
    stack.stop()


def greedy(
    folder: Path, prompt: list[int], max_tokens: int, adapter: Path | None = None
) -> tuple[int, ...]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
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
        workers = {m.name: m.num_workers for m in client.models()}
        assert workers == {"tiny": 2, "tiny:poet": 2, "sibling": 1}

        pair._parts[-2].process.terminate()  # the sibling's; the front is the last
        wait_until(lambda: client.model("sibling").num_workers == 0)
        with pytest.raises(UnavailableError, match="sibling"):
            client.create(prompt, model="sibling", timeout=0.5)
        assert call("tiny") == said[0]


def test_adapters_are_models_that_come_go_and_survive_their_worker(
    pair: Stack, tiny_model: Path, adapters: Path
) -> None:
    prompt = [10, 20, 30, 40]
    long = greedy(tiny_model, prompt, 300, adapters / "poet")
    with Client(pair.address) as client, ThreadPoolExecutor(4) as pool:

        def call(model: str) -> tuple[int, ...]:
            stream = client.generate(
                prompt, model=model, max_tokens=20, temperature=0, ignore_eos=True
            )
            return stream.result().token_ids

        poet = client.model("tiny:poet")
        assert (poet.base, poet.num_workers) == ("tiny", 2)
        said = list(pool.map(call, ["tiny:poet", "tiny"] * 4))
        assert said == [long[:20], greedy(tiny_model, prompt, 20)] * 4
        with pytest.raises(ModelNotFoundError):
            client.generate(prompt, model="tiny:nobody").result()

        put_adapter(tiny_model, adapters / "clerk", seed=2)  # as the workers run
        wait_until(lambda: "tiny:clerk" in {m.name for m in client.models()})
        said_by_clerk = greedy(tiny_model, prompt, 20, adapters / "clerk")
        assert call("tiny:clerk") == said_by_clerk != long[:20]

        stream = client.generate(
            prompt, model="tiny:poet", max_tokens=300, temperature=0, ignore_eos=True
        )
        seen: list[int] = []
        for chunk in stream:
            if len(seen) <= 20 < len(seen) + len(chunk.token_ids):
                kill_worker_of(pair, str(stream.generation_id))
            seen += chunk.token_ids
        assert tuple(seen) == long
        assert stream.result().attempts == 2

        (adapters / "clerk").rename(adapters / ".gone")
        wait_until(lambda: client.model("tiny:clerk").num_workers == 0)
        with pytest.raises(UnavailableError, match="clerk"):
            client.create(prompt, model="tiny:clerk", timeout=0.5)
