"""Several answers, best-of and echo, from the SDK and the command line."""

from __future__ import annotations

import pytest

from miao_client import Client, FinishReason, InvalidRequestError
from miao_client.cli.app import run
from miao_worker.stack import Stack

PROMPT = "the quick brown fox"
SETTINGS = {"max_tokens": 12, "temperature": 1, "seed": 11, "ignore_eos": True}


def test_each_answer_is_what_its_seed_says_alone_and_can_be_followed_from_anywhere(
    client: Client,
) -> None:
    stream = client.generate(PROMPT, n=3, echo=True, **SETTINGS)  # type: ignore[arg-type]
    chunks = list(stream)
    result = stream.result()
    assert result.prompt is not None
    assert result.prompt.text == PROMPT
    assert len({answer.token_ids for answer in result.answers}) == 3
    for answer in result.answers:
        assert answer.ending is not None
        alone = client.generate(PROMPT, **(SETTINGS | {"seed": answer.ending.seed}))  # type: ignore[arg-type]
        assert alone.result().token_ids == answer.token_ids
        assert "".join(c.text for c in chunks if c.answer_index == answer.index and not c.is_prompt)
    assert result.usage is not None
    assert result.usage.output_tokens == 36
    assert result.generation_id is not None
    for after in (3, 20):
        rest = list(client.follow(result.generation_id, after=after))
        assert sum(len(c.token_ids) for c in rest) == chunks[-1].sequence_number - after
    got = client.get(result.generation_id, include_output=True).output
    assert got is not None
    assert [got.text, *(said.text for said in got.others)] == [a.text for a in result.answers]


def test_the_best_are_those_of_the_highest_mean(client: Client) -> None:
    everything = client.generate(PROMPT, n=5, best_of=5, **SETTINGS).result()  # type: ignore[arg-type]
    means = [sum(p.logprob for p in a.logprobs) / 12 for a in everything.answers]
    assert means == sorted(means, reverse=True)
    two = client.generate(PROMPT, n=2, best_of=5, ranking="total_logprob", **SETTINGS).result()  # type: ignore[arg-type]
    assert [a.index for a in two.answers] == [a.index for a in everything.answers[:2]]
    assert two.text == everything.answers[0].text


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"n": 17}, "spec.n"),
        ({"n": 0}, "spec.n"),
        ({"n": 2, "temperature": 0}, "spec.n"),
        ({"best_of": 2, "temperature": 0}, "spec.best_of"),
        ({"n": 3, "best_of": 2, "temperature": 1}, "spec.best_of"),
        ({"ranking": "mean_logprob"}, "spec.ranking"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(
    client: Client, settings: dict[str, float], field: str
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.generate(PROMPT, **settings).result()  # type: ignore[arg-type]
    assert [violation.field for violation in refused.value.violations] == [field]


def test_a_cancel_ends_all_answers_in_one_event(client: Client) -> None:
    stream = client.generate(PROMPT, n=3, **(SETTINGS | {"max_tokens": 450}))  # type: ignore[arg-type]
    for chunk in stream:
        if chunk.sequence_number > 10:
            stream.cancel()
    result = stream.result()
    assert result.finish_reason is FinishReason.CANCELLED
    ends = [answer.ending for answer in result.answers]
    assert [end and end.reason for end in ends] == [FinishReason.CANCELLED] * 3
    lengths = [len(answer.token_ids) for answer in result.answers]
    assert max(lengths) - min(lengths) <= 1


def test_the_command_line_shows_the_best(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--target", stack.address, "--max-tokens", "4", "--temperature", "1"]
    assert run(["generate", PROMPT, "-n", "2", "--best-of", "3", "--echo", *options]) == 0
    lines = capsys.readouterr().out
    assert lines.startswith(PROMPT)
    assert lines.count("\n[") == 2
