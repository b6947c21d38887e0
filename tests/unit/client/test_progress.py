"""Whatever connections bring, what is delivered is gapless and without repeats."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miao.v1 import generation_pb2 as pb
from miao_client import DataLossError, FinishReason, InternalError
from miao_client.progress import Progress


def tokens(
    first: int, texts: list[str], *, attempt: int = 1, lengths: bool = True, logprobs: bool = False
) -> pb.GenerationEvent:
    """An event of tokens `first` and those after it, one for each text."""
    ids = range(first, first + len(texts))
    message = pb.Tokens(text="".join(texts), token_ids=ids)
    if lengths and len(texts) > 1:
        message.text_lengths.extend(len(text) for text in texts)
    if logprobs:
        message.logprobs.extend(pb.TokenLogprobs(logprob=-float(number)) for number in ids)
    return pb.GenerationEvent(
        sequence_number=first + len(texts) - 1, attempt=attempt, tokens=message
    )


def accepted(generation_id: str = "g") -> pb.GenerationEvent:
    return pb.GenerationEvent(accepted=pb.Accepted(generation_id=generation_id, request_id="r"))


def finished(upto: int, reason: int = pb.FINISH_REASON_STOP) -> pb.GenerationEvent:
    return pb.GenerationEvent(
        sequence_number=upto, attempt=1, finished=pb.Finished(reason=reason, stop="。")
    )


def test_an_event_already_seen_is_dropped() -> None:
    progress = Progress()
    progress.take(tokens(1, ["a", "b"]))
    assert progress.take(tokens(1, ["a"])) is None
    assert progress.take(tokens(1, ["a", "b"])) is None
    assert progress.result().text == "ab"


def test_an_event_that_straddles_loses_what_is_known() -> None:
    progress = Progress()
    progress.take(tokens(1, ["为", "什么"]))
    chunk = progress.take(tokens(2, ["什么", "😀!", ""], attempt=2, logprobs=True))
    assert chunk is not None
    assert (chunk.text, chunk.token_ids, chunk.sequence_number) == ("😀!", (3, 4), 4)
    assert [each.logprob for each in chunk.logprobs] == [-3.0, -4.0]
    assert progress.result().text == "为什么😀!"
    assert progress.result().attempts == 2


@pytest.mark.parametrize("after", [0, 2])
def test_what_comes_again_must_be_what_was_delivered(after: int) -> None:
    for ids, again_ids in (([3, 4], [3, 9, 5]), ([3, 4, 5], [9, 4])):
        progress = Progress(after=after)
        for number, token_id in enumerate(ids, start=after + 1):
            tokens = pb.Tokens(text="a", token_ids=[token_id])
            progress.take(pb.GenerationEvent(sequence_number=number, tokens=tokens))
        held = progress.result()
        texts = pb.Tokens(text="aaa", token_ids=again_ids, text_lengths=[1] * len(again_ids))
        again = pb.GenerationEvent(sequence_number=after + len(again_ids), tokens=texts)
        with pytest.raises(DataLossError, match="something else"):
            progress.take(again)
        assert progress.result() == held


def test_what_lies_before_the_beginning_is_not_compared() -> None:
    progress = Progress(after=2)
    progress.take(tokens(3, ["c"]))
    assert progress.take(tokens(1, ["a"])) is None
    assert progress.take(tokens(1, ["a", "b", "c", "d"])).text == "d"  # type: ignore[union-attr]


def test_an_event_that_straddles_needs_its_text_lengths() -> None:
    progress = Progress()
    progress.take(tokens(1, ["a"]))
    with pytest.raises(InternalError):
        progress.take(tokens(1, ["a", "b"], lengths=False))


def test_text_lengths_must_cover_the_text() -> None:
    progress = Progress(after=1)
    event = tokens(1, ["a", "b"])
    event.tokens.text += "c"
    with pytest.raises(InternalError):
        progress.take(event)


def test_a_gap_is_never_silent() -> None:
    progress = Progress()
    progress.take(tokens(1, ["a"]))
    with pytest.raises(DataLossError, match="2 to 3"):
        progress.take(tokens(4, ["d"]))


@pytest.mark.parametrize("upto", [0, 2])
def test_an_end_elsewhere_than_at_the_last_token_is_data_loss(upto: int) -> None:
    progress = Progress()
    progress.take(tokens(1, ["a"]))
    with pytest.raises(DataLossError):
        progress.take(finished(upto))


def test_text_without_tokens_breaks_the_contract() -> None:
    event = pb.GenerationEvent(sequence_number=0, tokens=pb.Tokens(text="x"))
    with pytest.raises(InternalError):
        Progress().take(event)


def test_accepted_may_come_again() -> None:
    progress = Progress()
    progress.take(accepted())
    progress.take(accepted())
    assert progress.generation_id == "g"


def test_another_generation_in_its_place_is_data_loss() -> None:
    progress = Progress()
    progress.take(accepted("g"))
    with pytest.raises(DataLossError):
        progress.take(accepted("h"))


def test_an_event_of_a_later_version_is_passed_over() -> None:
    assert Progress().take(pb.GenerationEvent(attempt=1)) is None


def test_following_from_a_number_delivers_what_comes_after() -> None:
    progress = Progress("g", after=5)
    chunk = progress.take(tokens(6, ["x"]))
    assert chunk is not None
    progress.take(finished(6))
    result = progress.result()
    assert (result.text, result.request_id, result.stopped_by) == ("x", None, "。")
    assert result.finish_reason is FinishReason.STOP


def test_an_empty_generation_ends() -> None:
    progress = Progress()
    progress.take(accepted())
    progress.take(finished(0))
    assert progress.result().text == ""


@st.composite
def connections(draw: st.DrawFn) -> tuple[list[str], list[pb.GenerationEvent]]:
    """A generation, and its events as some connections brought them.

    Each connection begins at or before where the last broke, cuts the tokens
    into events in its own way, and breaks somewhere.
    """
    texts = draw(st.lists(st.text(max_size=3), min_size=1, max_size=12))
    events: list[pb.GenerationEvent] = []
    reached = 0
    while reached < len(texts):
        start = draw(st.integers(0, reached))
        stop = len(texts) - draw(st.integers(0, len(texts) - start))
        cuts = sorted({start, stop, *draw(st.lists(st.integers(start, stop), max_size=4))})
        events += [tokens(low + 1, texts[low:high]) for low, high in pairwise(cuts)]
        reached = max(reached, stop)
    return texts, [*events, finished(len(texts))]


@given(connections())
def test_any_connections_deliver_every_token_once_in_order(
    case: tuple[list[str], list[pb.GenerationEvent]],
) -> None:
    texts, events = case
    progress = Progress()
    chunks = [chunk for event in events if (chunk := progress.take(event)) is not None]
    assert [number for chunk in chunks for number in chunk.token_ids] == [*range(1, len(texts) + 1)]
    assert "".join(chunk.text for chunk in chunks) == "".join(texts) == progress.result().text
    assert [chunk.sequence_number for chunk in chunks] == sorted(
        {chunk.sequence_number for chunk in chunks}
    )


@given(connections(), st.data())
def test_a_lost_event_is_noticed_or_made_up_for(
    case: tuple[list[str], list[pb.GenerationEvent]], data: st.DataObject
) -> None:
    texts, events = case
    del events[data.draw(st.integers(0, len(events) - 2))]
    progress = Progress()
    try:
        for event in events:
            progress.take(event)
    except DataLossError:
        return
    assert progress.result().text == "".join(texts)
    assert len(progress.result().token_ids) == len(texts)
