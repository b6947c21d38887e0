"""Whose is what in a stream of several answers."""

from __future__ import annotations

from miao.v1 import generation_pb2 as pb
from miao_client.progress import Progress


def tokens(upto: int, text: str, index: int = 0, is_prompt: bool = False) -> pb.GenerationEvent:
    said = pb.Tokens(text=text, token_ids=[upto], answer_index=index, is_prompt=is_prompt)
    return pb.GenerationEvent(sequence_number=upto, attempt=1, tokens=said)


def finished(upto: int, **fields: object) -> pb.GenerationEvent:
    end = pb.Finished(reason=pb.FINISH_REASON_STOP, **fields)  # type: ignore[arg-type]
    return pb.GenerationEvent(sequence_number=upto, attempt=1, finished=end)


STREAM = [
    tokens(1, "P", is_prompt=True),
    tokens(2, "a", 0),
    tokens(3, "x", 1),
    tokens(4, "b", 0),
    tokens(5, "y", 1),
    tokens(6, "z", 1),
]
ENDS = [
    pb.AnswerEnd(reason=pb.FINISH_REASON_STOP, stop="!", seed=3, total_logprob=-2.5),
    pb.AnswerEnd(reason=pb.FINISH_REASON_LENGTH, seed=4, total_logprob=-1.5),
    pb.AnswerEnd(reason=pb.FINISH_REASON_LENGTH, seed=5, total_logprob=-9.0),
]


def result_of(*events: pb.GenerationEvent):  # type: ignore[no-untyped-def]
    progress = Progress()
    for event in events:
        progress.take(event)
    return progress.result()


def test_answers_and_the_prompt_are_told_apart() -> None:
    result = result_of(*STREAM, finished(6, answers=ENDS))
    assert [answer.text for answer in result.answers] == ["ab", "xyz", ""]
    assert result.text == "ab"
    assert result.answers[1].token_ids == (3, 5, 6)
    assert result.prompt is not None
    assert (result.prompt.text, result.prompt.token_ids) == ("P", (1,))
    assert [a.ending.stopped_by for a in result.answers if a.ending] == ["!", None, None]


def test_the_best_come_first_and_are_the_result() -> None:
    result = result_of(*STREAM, finished(6, answers=ENDS, best=[1, 0]))
    assert [answer.index for answer in result.answers] == [1, 0]
    assert result.text == "xyz"
    assert result.answers[0].ending is not None
    assert result.answers[0].ending.total_logprob == -1.5


def test_a_stream_of_one_answer_has_one() -> None:
    result = result_of(tokens(1, "a"))
    assert [answer.text for answer in result.answers] == ["a"]
    assert result.answers[0].ending is None
    assert result.prompt is None
    assert [answer.text for answer in result_of().answers] == [""]
