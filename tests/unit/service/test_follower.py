"""A follower gives its stream every token once, and only those that continue what it gave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miao.v1 import generation_pb2 as pb
from miao_queue import events
from miao_queue.events import Position
from miao_service.errors import GenerationLostError, JournalLostError, OutputChangedError
from miao_service.follower import Entry, Follower


def journal(
    token_ids: Sequence[int], cuts: Sequence[int] = (), *, ended: bool = True
) -> list[Entry]:
    """The entries of a generation that says these tokens, cut at these numbers."""
    places = sorted({0, *cuts, len(token_ids)})
    entries = []
    for first, last in pairwise(places):
        said = token_ids[first:last]
        tokens = pb.Tokens(text="x" * len(said), token_ids=said, text_lengths=[1] * len(said))
        payload = events.tokens(last, 1, tokens, events.digest(token_ids[:last]))
        entries.append((Position(last), payload))
    if ended:
        finished = events.finished(len(token_ids), 1, pb.Finished(reason=pb.FINISH_REASON_STOP))
        entries.append((Position(len(token_ids), ended=True), finished))
    return entries


class Reader:
    """Catches a follower up from a journal that lies here, as the journal reader does."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    async def catch_up(self, follower: Follower) -> None:
        if follower.needs_anchor:
            follower.needs_anchor = False
            before = [e for e in self.entries if e[0].tokens <= follower.seen and not e[0].ended]
            follower.anchor(before[-1] if before else None)
            return
        behind = [e for e in self.entries if _order(e[0]) > _order(follower.position)]
        if not behind:
            raise EndOfJournal
        follower.take(behind[:2])


class EndOfJournal(Exception):  # noqa: N818  # there is nothing to wait for in these tests
    pass


def _order(position: Position) -> tuple[int, bool]:
    return position.tokens, position.ended


def follower(
    reader: Reader, seen: int = 0, digest: int | None = None, limit: int = 9999
) -> Follower:
    return Follower("g", seen, limit, reader, digest)


async def read(stream: Follower) -> list[int]:
    """The token ids that come, to the end or as far as the journal goes."""
    token_ids: list[int] = []
    try:
        while batch := await stream.next_batch():
            token_ids += events.output(batch).token_ids
    except EndOfJournal:
        pass
    return token_ids


async def test_a_new_stream_brings_all() -> None:
    reader = Reader()
    reader.entries = journal([1, 2, 3, 4, 5], [1, 3])
    stream = follower(reader)
    assert await read(stream) == [1, 2, 3, 4, 5]
    assert stream.has_ended


@given(
    token_ids=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
    seen=st.integers(0, 12),
    known=st.booleans(),
)
async def test_a_stream_from_any_number_brings_the_rest_of_any_cut(
    token_ids: list[int], cuts: set[int], seen: int, known: bool
) -> None:
    seen = min(seen, len(token_ids))
    reader = Reader()
    reader.entries = journal(token_ids, [cut for cut in cuts if cut < len(token_ids)])
    digest = events.digest(token_ids[:seen]) if known else None
    assert await read(follower(reader, seen, digest)) == token_ids[seen:]


@given(
    token_ids=st.lists(st.integers(0, 9), min_size=2, max_size=12),
    cuts=st.sets(st.integers(1, 11)),
    data=st.data(),
)
async def test_another_beginning_is_noticed_wherever_it_differs(
    token_ids: list[int], cuts: set[int], data: st.DataObject
) -> None:
    seen = data.draw(st.integers(1, len(token_ids)))
    digest = events.digest(token_ids[:seen])
    changed = list(token_ids)
    changed[data.draw(st.integers(0, seen - 1))] += 10
    reader = Reader()
    reader.entries = journal(changed, [cut for cut in cuts if cut < len(token_ids)])
    with pytest.raises(OutputChangedError, match="differently"):
        await read(follower(reader, seen, digest))


@pytest.mark.parametrize("digest", [events.digest([1, 2, 3, 4]), None])
async def test_a_journal_that_is_behind_is_compared_when_it_gets_there(digest: int | None) -> None:
    reader = Reader()
    reader.entries = journal([1, 2], [1], ended=False)
    stream = follower(reader, 4, digest)
    assert await read(stream) == []
    reader.entries = journal([1, 2, 3], [1, 2], ended=False)
    assert await read(stream) == []
    reader.entries = journal([1, 2, 3, 4, 5], [1, 2, 3])
    assert await read(stream) == [5]


@given(
    first=st.sets(st.integers(1, 5)),
    second=st.sets(st.integers(1, 7)),
    kept=st.integers(0, 6),
    differs=st.booleans(),
)
async def test_a_journal_that_lost_its_end_and_was_written_again(
    first: set[int], second: set[int], kept: int, differs: bool
) -> None:
    """Redis comes back with the entries up to `kept`; the rest is cut anew, and may differ."""
    token_ids = [1, 2, 3, 4, 5, 6]
    reader = Reader()
    reader.entries = journal(token_ids, sorted(first), ended=False)
    stream = follower(reader)
    assert await read(stream) == token_ids
    held = [entry[0].tokens for entry in reader.entries if entry[0].tokens <= kept]
    stream.doubt()
    reader.entries = [entry for entry in reader.entries if entry[0].tokens <= kept]
    assert await read(stream) == []
    base = max(held, default=0)
    again = token_ids + [7, 8]
    if differs and base < 6:
        again[base] = 99
    cuts = [*held, *(cut for cut in second if cut > base)]
    reader.entries = journal(again, cuts)
    if differs and base < 6:
        with pytest.raises(OutputChangedError):
            await read(stream)
    else:
        assert await read(stream) == [7, 8]


async def test_what_a_stream_has_given_counts_more_than_what_its_caller_once_said() -> None:
    reader = Reader()
    reader.entries = journal([1, 2, 3], [1, 2], ended=False)
    stream = follower(reader, 1, events.digest([1]))
    assert await read(stream) == [2, 3]
    stream.doubt()
    reader.entries = journal([1, 9, 3, 4], [1, 2, 3])
    with pytest.raises(OutputChangedError):
        await read(stream)


async def test_an_end_before_what_was_seen_is_a_lost_journal() -> None:
    reader = Reader()
    reader.entries = journal([1, 2])
    with pytest.raises(JournalLostError):
        await read(follower(reader, 3))


async def test_a_lost_generation_goes_on_when_it_is_made_again() -> None:
    reader = Reader()
    reader.entries = journal([1, 2, 3], [1, 2], ended=False)
    stream = follower(reader)
    assert await read(stream) == [1, 2, 3]
    stream.fail(GenerationLostError())
    with pytest.raises(GenerationLostError):
        await read(stream)
    stream.begin_again()
    reader.entries = []
    assert await read(stream) == []
    reader.entries = journal([1, 2, 3, 4], [2])
    assert await read(stream) == [4]
    assert stream.has_ended


async def test_a_full_buffer_takes_no_more_and_loses_nothing() -> None:
    reader = Reader()
    token_ids = list(range(50))
    reader.entries = journal(token_ids, range(50))
    stream = follower(reader, limit=20)
    stream.is_live = True
    stream.take(reader.entries)
    assert not stream.is_live
    assert stream.waiting_bytes <= 20 + max(len(payload) for _, payload in reader.entries)
    assert await read(stream) == token_ids
