"""What must not be said equals transformers' `bad_words_ids`, token by token, in float32."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from miao_worker.engine.types import SequenceRequest


class Echo:
    """Proposes what the model would have said without bans, so that bans refuse some of it."""

    usual_length = 6

    def __init__(self, subject):
        self._subject = subject

    def propose(self, sequences, lengths):
        said = [self._subject.expected[int(q.sequence_id)] for q in sequences]
        return [
            tuple(s[q.num_output_tokens : q.num_output_tokens + n])
            for s, q, n in zip(said, sequences, lengths, strict=True)
        ]


def bans_of(subject, index):
    """Some of one token, some of two and three, one across the prompt's end, one unreachable."""
    prompt, said = subject.prompts[index], subject.expected[index]
    free = reference(subject, index, [[said[6]]])
    return {
        "one": [[said[2]], [said[9]]],
        "two": [list(said[3:5]), list(free[6:8])],
        "three": [list(said[7:10])],
        "border": [[prompt[-1], said[0]], [*prompt[-2:], *said[:2]]],
        "too long": [[1] * 120, list(said[:2])],
        "mixed": [[said[1]], list(said[4:6]), [*said[2:4], 5]],
    }


def reference(subject, index, bans):
    model = AutoModelForCausalLM.from_pretrained(subject.folder, attn_implementation="eager")
    ids = torch.tensor([subject.prompts[index]])
    mask = torch.ones_like(ids)
    settings = {"max_new_tokens": 24, "do_sample": False, "bad_words_ids": bans}
    return tuple(model.generate(ids, attention_mask=mask, **settings)[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("name", ["one", "two", "three", "border", "too long", "mixed"])
def test_alone_in_a_mixed_batch_resumed_and_speculated(llama, run, name):
    bans = bans_of(llama, 3)[name]
    expected = reference(llama, 3, bans)
    assert expected != llama.expected[3]
    banned = llama.request(3, bad_token_ids=tuple(map(tuple, bans)))
    assert run(llama.engine(), [banned]) == {"3": expected}
    mixed = [llama.request(1), banned, llama.request(5)]
    others = {"1": llama.expected[1], "5": llama.expected[5]}
    assert run(llama.engine(max_batch_tokens=16), mixed) == others | {"3": expected}
    assert run(llama.engine(overlap=True), mixed) == others | {"3": expected}
    speculating = llama.engine(Echo(llama), free=True)
    assert run(speculating, mixed) == others | {"3": expected}
    assert speculating.step().stats.num_accepted_tokens > 20
    for at in (1, 11):
        resumed = SequenceRequest("r", banned.prompt_token_ids, banned.sampling, expected[:at])
        assert run(llama.engine(), [resumed]) == {"r": expected[at:]}


def test_what_is_sampled_holds_none_of_it(llama, run):
    bans = tuple((token,) for token in range(0, 211, 2)) + ((1, 3), (5, 7, 9))
    asked = {"temperature": 3.0, "max_tokens": 60, "bad_token_ids": bans}
    output = run(llama.engine(), [llama.request(i, **asked) for i in range(6)])
    for index, said in output.items():
        whole = (*llama.prompts[int(index)], *said)
        first = len(whole) - len(said)
        assert all(token % 2 for token in said)
        for ban in ((1, 3), (5, 7, 9)):
            ends = range(max(first, len(ban) - 1), len(whole))
            assert not any(whole[e - len(ban) + 1 : e + 1] == ban for e in ends)
