"""Penalties, bias and minimum length equal transformers' processors, token by token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from miao_worker.engine.types import SequenceRequest

OPTIONS = {
    "repetition": ({"repetition_penalty": 1.4}, {"repetition_penalty": 1.4}),
    "reward": ({"repetition_penalty": 0.7}, {"repetition_penalty": 0.7}),
    "bias": (
        {"logit_bias": ((5, 3.0), (17, -8.0))},
        {"sequence_bias": {(5,): 3.0, (17,): -8.0}},
    ),
    "all": (
        {"repetition_penalty": 1.2, "logit_bias": ((9, 2.0),)},
        {"repetition_penalty": 1.2, "sequence_bias": {(9,): 2.0}},
    ),
}


def reference(subject, index, **options):
    model = AutoModelForCausalLM.from_pretrained(subject.folder, attn_implementation="eager")
    ids = torch.tensor([subject.prompts[index]])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, **options
    )
    return tuple(output[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("name", OPTIONS)
def test_alone_in_a_mixed_batch_and_resumed(llama, run, name):
    ours, theirs = OPTIONS[name]
    expected = reference(llama, 3, **theirs)
    assert expected != llama.expected[3]
    assert run(llama.engine(), [llama.request(3, **ours)]) == {"3": expected}
    mixed = [llama.request(1), llama.request(3, **ours), llama.request(5)]
    tokens = run(llama.engine(max_batch_tokens=16), mixed)
    assert tokens == {"1": llama.expected[1], "3": expected, "5": llama.expected[5]}
    half = llama.request(3, **ours)
    resumed = SequenceRequest("r", half.prompt_token_ids, half.sampling, expected[:11])
    assert run(llama.engine(), [resumed]) == {"r": expected[11:]}


def test_a_stop_waits_for_the_fewest_tokens(llama, run):
    stop = llama.expected[3][4]
    early = llama.request(3, stop_token_ids=frozenset({stop}))
    assert len(run(llama.engine(), [early])["3"]) == 5
    late = replace(early, sampling=replace(early.sampling, min_tokens=9))
    expected = reference(llama, 3, min_new_tokens=9, eos_token_id=stop)
    assert run(llama.engine(), [late])["3"] == expected
    assert stop not in expected[:9]
