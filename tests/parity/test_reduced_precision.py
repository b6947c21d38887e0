"""Models in 16 bits: the output follows float32's, whatever the machine computes in."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM


@pytest.fixture(scope="module")
def rounded(subject, tmp_path_factory):
    """The model with its weights rounded to bfloat16."""
    folder = tmp_path_factory.mktemp("rounded")
    AutoModelForCausalLM.from_pretrained(subject.folder, dtype=torch.bfloat16).save_pretrained(
        folder
    )
    return folder


def test_logprobs_follow_those_of_float32(subject, rounded):
    """Token by token on the same tokens, so that one tie does not decide the rest."""
    from dataclasses import replace

    same_weights = replace(subject, folder=rounded)
    gaps = []
    for index in (1, 3):
        pair = []
        for dtype in ("bfloat16", "float32"):
            engine = same_weights.engine(dtype=dtype)
            engine.add(subject.request(index, max_tokens=1, num_logprobs=5))
            (output,) = engine.step().outputs
            pair.append(dict(output.logprobs[0].top))
        common = pair[0].keys() & pair[1].keys()
        assert len(common) >= 3
        gaps += [abs(pair[0][token] - pair[1][token]) for token in common]
    assert max(gaps) < 0.5
