"""Greedy output with adapters in float32 equals peft's own, token by token, in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from miao_worker.engine.adapters.identity import digest_of
from miao_worker.engine.engine import Engine
from miao_worker.engine.speculation.proposer import Proposer
from miao_worker.engine.types import SequenceRequest

from .conftest import MAX_TOKENS, Subject

# peft asks a model of transformers for an attribute under its former name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

# One that joins its linear layers itself, one that does not, one of sandwiched norms, and one
# whose layers are no nn.Linear. The others differ in what no adapter touches.
KINDS = {"gpt2", "llama", "gemma2", "phi3"}
ATTENTION = {"gpt2": ["c_attn"], "phi3": ["qkv_proj"]}
MLP = {"gpt2": ["c_fc"], "phi3": ["gate_up_proj", "down_proj"]}


@dataclass(frozen=True)
class Adapted:
    """A folder of an adapter, and what peft says with it to each prompt of the subject."""

    adapter_id: str
    folder: Path
    expected: list[tuple[int, ...]]


def configs(name: str) -> list[LoraConfig]:
    """Of attention alone, of the MLP alone with another scale, and of all."""
    attention = ATTENTION.get(name, ["q_proj", "v_proj"])
    mlp = MLP.get(name, ["up_proj", "down_proj"])
    turned = {"fan_in_fan_out": name == "gpt2"}  # its layers keep their weights so
    return [
        LoraConfig(r=4, lora_alpha=8, target_modules=attention, **turned),
        LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=mlp, **turned),
        LoraConfig(r=6, lora_alpha=6, target_modules="all-linear", **turned),
    ]


@pytest.fixture(scope="session")
def adapters_of(tmp_path_factory: pytest.TempPathFactory):
    made: dict[Path, list[Adapted]] = {}

    def make(subject: Subject) -> list[Adapted]:
        if subject.name not in KINDS:
            pytest.skip("covered by another architecture")
        if subject.folder not in made:
            folder = tmp_path_factory.mktemp("adapters")
            made[subject.folder] = [
                make_adapted(subject, folder / str(i), config, seed=i)
                for i, config in enumerate(configs(subject.name))
            ]
        return made[subject.folder]

    return make


def make_adapted(subject: Subject, folder: Path, config: LoraConfig, seed: int) -> Adapted:
    base = AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.float32).eval()
    torch.manual_seed(seed)
    model = get_peft_model(base, config).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    expected = []
    for prompt in subject.prompts:
        ids = torch.tensor([prompt])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
        )
        expected.append(tuple(output[0, len(prompt) :].tolist()))
    return Adapted(digest_of(folder), folder, expected)


def make_engine(subject: Subject, adapters: list[Adapted], **changes) -> Engine:
    engine = subject.engine(max_adapters=changes.pop("max_adapters", 3), **changes)
    for adapter in adapters:
        engine.register_adapter(adapter.adapter_id, adapter.folder)
    return engine


def mixed(subject: Subject, adapters: list[Adapted]) -> Iterator[tuple[SequenceRequest, tuple]]:
    """Every prompt by itself and with each adapter, and what is expected."""
    for index in range(len(subject.prompts)):
        request = subject.request(index)
        yield replace(request, sequence_id=f"{index}-base"), subject.expected[index]
        for number, adapter in enumerate(adapters):
            named = replace(request, sequence_id=f"{index}-{number}", adapter=adapter.adapter_id)
            yield named, adapter.expected[index]


def check_mixed(engine: Engine, subject: Subject, adapters: list[Adapted], run) -> None:
    requests = list(mixed(subject, adapters))
    tokens = run(engine, [request for request, _ in requests])
    assert tokens == {request.sequence_id: expected for request, expected in requests}


def test_adapters_change_what_is_said(subject, adapters_of) -> None:
    said = [tuple(subject.expected), *(tuple(a.expected) for a in adapters_of(subject))]
    assert len(set(said)) == len(said)


def test_alone(subject, adapters_of, run) -> None:
    adapters = adapters_of(subject)
    engine = make_engine(subject, adapters)
    for adapter in adapters:
        request = replace(subject.request(1), adapter=adapter.adapter_id)
        assert run(engine, [request]) == {"1": adapter.expected[1]}


def test_in_a_mixed_batch_and_again_from_the_prefix_cache(subject, adapters_of, run) -> None:
    """The same prompt's blocks are another's with another adapter."""
    adapters = adapters_of(subject)
    engine = make_engine(subject, adapters, block_size=subject.small_block)
    check_mixed(engine, subject, adapters, run)
    check_mixed(engine, subject, adapters, run)


def test_with_chunked_prefill_preemption_and_few_places(subject, adapters_of, run) -> None:
    adapters = adapters_of(subject)
    size = subject.small_block
    block_bytes = (1 << 20) // subject.engine(block_size=size, cache_bytes=1 << 20).num_blocks
    engine = make_engine(
        subject,
        adapters,
        max_adapters=2,
        block_size=size,
        max_batch_tokens=11,
        max_model_length=96,
        cache_bytes=112 // size * block_bytes,
    )
    check_mixed(engine, subject, adapters, run)
    assert engine.step().stats.num_preemptions > 0


class _Oracle:
    """Proposes what will be said, and sometimes something else."""

    usual_length = 3

    def __init__(self, said: dict[str, tuple[int, ...]]) -> None:
        self._said = said

    def propose(self, sequences, lengths):
        proposals = []
        for sequence, length in zip(sequences, lengths, strict=True):
            at = sequence.num_output_tokens
            tokens = list(self._said[sequence.sequence_id][at : at + length])
            if at % 4 == 1 and tokens:
                tokens[-1] = (tokens[-1] + 1) % 211
            proposals.append(tuple(tokens))
        return proposals


def test_with_speculation(llama, adapters_of, run) -> None:
    adapters = adapters_of(llama)
    requests = list(mixed(llama, adapters))
    proposer: Proposer = _Oracle({r.sequence_id: expected for r, expected in requests})
    engine = llama.engine(proposer, free=True, max_adapters=3)
    for adapter in adapters:
        engine.register_adapter(adapter.adapter_id, adapter.folder)
    check_mixed(engine, llama, adapters, run)
    assert engine.step().stats.num_accepted_tokens > 50


def test_after_resume_from_partial_output(llama, adapters_of, run) -> None:
    """Another engine goes on where the first one stopped."""
    adapter = adapters_of(llama)[2]
    request = replace(llama.request(3), adapter=adapter.adapter_id)
    request = replace(request, output_token_ids=adapter.expected[3][:9])
    assert run(make_engine(llama, [adapter]), [request]) == {"3": adapter.expected[3][9:]}


def collect(engine: Engine, found: dict[str, tuple[float, ...]]) -> None:
    """Step, and add what prompt tokens scored."""
    for output in engine.step().outputs:
        scores = tuple(entry.logprob for entry in output.prompt_logprobs)
        found[output.sequence_id] = found.get(output.sequence_id, ()) + scores


def test_a_prompt_is_scored_with_its_adapter(llama, adapters_of, run) -> None:
    """The rows that are scored come in another order than they were computed in."""
    adapters = adapters_of(llama)
    scores: list[dict[str, tuple]] = []
    for together in (True, False):
        engine = make_engine(llama, adapters)
        found: dict[str, tuple[float, ...]] = {}
        for index in (1, 2):
            sampling = replace(llama.request(index).sampling, max_tokens=1, num_prompt_logprobs=0)
            request = replace(llama.request(index), sampling=sampling)
            engine.add(replace(request, adapter=adapters[index].adapter_id))
            while not together and engine.has_unfinished:
                collect(engine, found)
        while engine.has_unfinished:
            collect(engine, found)
        scores.append(found)
    assert scores[0].keys() == scores[1].keys()
    for key, expected in scores[1].items():
        assert scores[0][key] == pytest.approx(expected, abs=1e-4)
