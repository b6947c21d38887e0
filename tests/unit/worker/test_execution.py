"""Several answers in one journal: their order, their ends, and how they go on after a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import Job
from miao.v1 import generation_pb2 as pb
from miao_queue import events
from miao_queue.claims import Claim, Entry
from miao_queue.records import Record, Status
from miao_worker.bundled import bundled_model_path
from miao_worker.engine.randomness import derived_seed
from miao_worker.engine.types import FinishReason, SequenceOutput, TokenLogprobs
from miao_worker.execution import Execution

TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))
PROMPT = list(TOKENIZER.encode("Set a reminder for 7 tomorrow morning. 春天").ids)


def claim(entries: Sequence[Entry] = (), **job: Any) -> Claim:
    record = Record(
        generation_id="g",
        request_id="r",
        model="m",
        tenant="t",
        queue="m:normal",
        status=Status.RUNNING,
        attempt=1,
        tokens=0,
        crashes=0,
        crashed_alone=False,
        accept_ms=0,
        deadline_ms=1 << 60,
        queue_deadline_ms=1 << 60,
        retention_seconds=1,
        accepted=pb.Accepted(),
        worker="w",
        claimed_ms=0,
        first_token_ms=None,
        finished=None,
    )
    wanted = {"prompt_token_ids": PROMPT, "max_tokens": 6, "num_answers": 3, **job}
    return Claim(record, Job(**wanted), "o", entries=entries, now_ms=0, state={})


def execution(entries: Sequence[Entry] = (), **job: Any) -> Execution:
    return Execution(claim(entries, **job), TOKENIZER, str)


def token(index: int, position: int) -> int:
    """What answer `index` says at a position."""
    return 1000 + 100 * index + position


def output(index: int, position: int, end: int, logprob: float | None = None) -> SequenceOutput:
    logprobs = None if logprob is None else (TokenLogprobs(logprob),)
    reason = FinishReason.STOP if position + 1 == end else None
    return SequenceOutput("s", (token(index, position),), logprobs, reason)


def said(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """(answer, token) in the order of the journal; the prompt's answer is -1."""
    tokens = [events.decode(entry.payload).tokens for entry in entries]
    return [(-1 if t.is_prompt else t.answer_index, i) for t in tokens for i in t.token_ids]


def canonical(lengths: Sequence[int]) -> list[tuple[int, int]]:
    return [
        (index, token(index, position))
        for position in range(max(lengths))
        for index, length in enumerate(lengths)
        if position < length
    ]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    schedule=st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=30),
    cut=st.integers(0, 24),
)
def test_the_journals_order_follows_from_the_answers_alone(
    lengths: list[int], schedule: list[list[int]], cut: int
) -> None:
    """However the engine brings them, and also for an attempt that goes on in the middle."""
    lasts = [token(index, length - 1) for index, length in enumerate(lengths)]
    job = {"num_answers": len(lengths), "stop_token_ids": lasts}
    one = execution(**job)
    run(one, lengths, schedule)
    expected = canonical(lengths)
    assert said(one.entries) == expected
    assert one.end is not None
    assert one.num_output_tokens == len(expected)
    kept = [entry for entry in one.entries if entry.last <= cut]
    other = execution(kept, **job)
    run(other, lengths, [])
    assert said(other.entries) == expected
    digests = [events.decode(e.entries[-1].payload).output_digest for e in (one, other)]
    assert digests[0] == digests[1]
    assert other.end == one.end


def run(one: Execution, lengths: Sequence[int], schedule: Sequence[Sequence[int]]) -> None:
    """Bring tokens as scheduled, then the rest in lines."""
    rest = [index for index in range(len(lengths)) for _ in range(lengths[index])]
    for step in [*schedule, *([index] for index in rest)]:
        outputs = []
        done = {a.index: len(a.computed_token_ids) for a in one.answers if a.runs}
        for index in step:
            if index in done and done[index] < lengths[index]:
                brought = output(index, done[index], lengths[index])
                outputs.append((one.answers[index], brought))
                done[index] += 1
        if one.end is None:
            one.advance(outputs, now_ms=5)


def test_the_best_are_named_by_mean_or_total_and_rebuilt_from_the_journal() -> None:
    logprobs = [[-1.0] * 2, [-0.75] * 3, [-2.0]]  # means -1, -0.75, -2; totals -2, -2.25, -2
    for ranking, best in ((pb.RANKING_MEAN_LOGPROB, [1, 0]), (pb.RANKING_TOTAL_LOGPROB, [0, 2])):
        lasts = [token(index, len(row) - 1) for index, row in enumerate(logprobs)]
        wanted = {"num_best": 2, "ranking": ranking, "logprobs": 0, "stop_token_ids": lasts}
        one = execution(**wanted)
        for position in range(3):
            one.advance(
                [
                    (one.answers[i], output(i, position, len(row), row[position]))
                    for i, row in enumerate(logprobs)
                    if position < len(row)
                ],
                now_ms=5,
            )
        assert one.end is not None
        assert list(one.end.best) == best
        assert [round(a.total_logprob, 3) for a in one.end.answers] == [-2.0, -2.25, -2.0]
        resumed = execution(one.entries[:-1], **wanted)
        resumed.advance([(resumed.answers[1], output(1, 2, 3, -0.75))], now_ms=5)
        assert resumed.end == one.end


def test_each_answer_draws_by_a_seed_of_its_own_and_the_first_by_the_seed_itself() -> None:
    one = execution(sampling=pb.Sampling(seed=2**64 - 1))
    seeds = [one.request(answer).sampling.seed for answer in one.answers]
    assert seeds[0] == 2**64 - 1
    assert len(set(seeds)) == 3
    assert seeds == [derived_seed(2**64 - 1, index) for index in range(3)]


def test_a_stop_text_ends_its_answer_alone() -> None:
    word = TOKENIZER.encode("tomorrow").ids
    one = execution(num_answers=2, stop=["tomorrow"], max_tokens=len(word) + 1)
    for position in range(len(word) + 1):
        outputs = [(one.answers[1], output(1, position, len(word) + 1))]
        if one.answers[0].end is None:
            outputs.append((one.answers[0], SequenceOutput("s", (word[position],))))
        one.advance(outputs, now_ms=5)
    assert one.end is not None
    assert [end.WhichOneof("stopped_by") for end in one.end.answers] == ["stop", "stop_token_id"]
    assert one.end.answers[0].stop == one.end.stop == "tomorrow"
    assert one.end.reason == pb.FINISH_REASON_STOP


def test_an_early_end_tells_which_answers_had_ended_before() -> None:
    one = execution()
    one.advance([(one.answers[0], output(0, 0, 1)), (one.answers[1], output(1, 0, 9))], now_ms=5)
    one.end_early(pb.FINISH_REASON_CANCELLED)
    assert one.end is not None
    assert one.end.reason == pb.FINISH_REASON_CANCELLED
    reasons = [pb.FINISH_REASON_STOP, *[pb.FINISH_REASON_CANCELLED] * 2]
    assert [end.reason for end in one.end.answers] == reasons
    assert [end.output_tokens for end in one.end.answers] == [1, 1, 0]


def test_a_failed_answer_ends_the_generation() -> None:
    one = execution()
    failed = SequenceOutput("s", finish_reason=FinishReason.ERROR, error="no")
    one.advance([(one.answers[0], output(0, 0, 9)), (one.answers[1], failed)], now_ms=5)
    assert one.end is not None
    assert (one.end.reason, one.end.error.message) == (pb.FINISH_REASON_ERROR, "no")
    assert said(one.entries) == [(0, token(0, 0))]


@given(kept=st.integers(0, 40))
def test_an_echoed_prompt_comes_first_once_and_whole(kept: int) -> None:
    one = execution(num_answers=2, echo_from=2, max_tokens=1)
    one.advance([(a, output(a.index, 0, 1)) for a in one.answers], now_ms=5)
    prompt = [(-1, token_id) for token_id in PROMPT[2:]]
    assert said(one.entries) == [*prompt, *canonical([1, 1])]
    first = events.decode(one.entries[0].payload).tokens
    assert first.text == TOKENIZER.decode(PROMPT)[len(TOKENIZER.decode(PROMPT[:2])) :]
    assert sum(first.text_lengths) == len(first.text)
    assert one.num_output_tokens == 2
    payload, last = one.entries[0].payload, one.entries[0].last
    part = [] if kept >= last else [Entry(kept, last, events.after(payload, kept) or b"")]
    other = execution(one.entries[:1] if not part else [], num_answers=2, echo_from=2, max_tokens=1)
    other.advance([(a, output(a.index, 0, 1)) for a in other.answers], now_ms=5)
    assert other.entries == one.entries


def scores(first: int, last: int) -> tuple[TokenLogprobs, ...]:
    return tuple(TokenLogprobs(-i / 16, ((i, -0.5),)) for i in range(first, last))


@given(cut=st.integers(0, 40), border=st.integers(1, 12))
def test_a_scored_prompt_comes_in_pieces_and_goes_on_where_it_was(cut: int, border: int) -> None:
    job = {"num_answers": 1, "max_tokens": 0, "echo_from": 0, "prompt_logprobs": 1}
    one, count = execution(**job), len(PROMPT)
    border = min(border, count - 1)
    (answer,) = one.answers
    assert one.request(answer).score_from == 1
    one.advance([(answer, SequenceOutput("s", prompt_logprobs=scores(1, border)))], now_ms=5)
    assert one.request(answer).score_from == border
    end = SequenceOutput(
        "s", prompt_logprobs=scores(border, count), finish_reason=FinishReason.LENGTH
    )
    one.advance([(answer, end)], now_ms=5)
    assert said(one.entries) == [(-1, token_id) for token_id in PROMPT]
    given = [p.logprob for e in one.entries for p in events.decode(e.payload).tokens.logprobs]
    assert given == [0.0, *(s.logprob for s in scores(1, count))]
    assert one.end is not None
    assert (one.end.reason, one.num_output_tokens) == (pb.FINISH_REASON_LENGTH, 0)
    other = execution([entry for entry in one.entries if entry.last <= cut], **job)
    if other.end is None:
        begin = other.request(other.answers[0]).score_from
        rest = SequenceOutput(
            "s", prompt_logprobs=scores(begin, count), finish_reason=FinishReason.LENGTH
        )
        other.advance([(other.answers[0], rest)], now_ms=5)
    assert said(other.entries) == said(one.entries)
    assert other.end == one.end


def test_the_engine_is_told_whose_it_is_and_who_may_find_its_blocks() -> None:
    mine = claim(cache_scope=b"scope of t")
    mine = replace(mine, record=replace(mine.record, tenant="t", weight=2.5))
    subject = Execution(mine, TOKENIZER, str, "an-adapter")
    for answer in subject.answers:
        request = subject.request(answer)
        assert (request.tenant, request.weight) == ("t", 2.5)
        assert (request.cache_scope, request.adapter) == (b"scope of t", "an-adapter")
