"""Prompts that are too long: which part of them is left out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao_queue.cards import ModelStatus
from miao_service import truncation
from miao_service.errors import InvalidRequestError
from miao_service.models import ServedModel
from miao_service.tokenization import EncodedChat, ModelTokenizer
from miao_service.truncation import Limit

from .test_tokenization import CHATML, byte_level

CONTEXT = 40
END, BEGINNING, BOTH = (
    pb.TRUNCATION_KEEP_END,
    pb.TRUNCATION_KEEP_BEGINNING,
    pb.TRUNCATION_KEEP_BOTH_ENDS,
)


def served(context: int = CONTEXT) -> ServedModel:
    card = ModelCard(
        name="tiny",
        tokenizer_json=byte_level().to_str(),
        chat_template=CHATML,
        max_model_length=context,
    )
    return ServedModel(card, ModelTokenizer(card), ModelStatus("", 1, 0))


MODEL = served()
BOS = 0


def limit(**spec: Any) -> Limit | None:
    return Limit.of(MODEL, pb.GenerationSpec(prompt="x", **spec))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, None),
        ({"truncation": pb.TRUNCATION_REFUSE, "max_tokens": 5}, None),
        ({"truncation": END, "max_tokens": 5}, 35),
        ({"truncation": END, "max_tokens": 0}, 40),
        ({"truncation": END, "max_prompt_tokens": 8}, 8),
        ({"truncation": END, "max_prompt_tokens": 80}, 39),
        ({"truncation": END, "max_prompt_tokens": 38, "max_tokens": 5}, 35),
    ],
)
def test_the_limit_leaves_room_for_the_output(spec: dict[str, Any], expected: int | None) -> None:
    found = limit(**spec)
    assert (found and found.num_tokens) == expected


def test_an_output_that_fills_the_context_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"spec\.max_tokens: must be below 40"):
        limit(truncation=END, max_tokens=40)


def test_what_the_limits_say_is_checked() -> None:
    def fields(num_tokens: int = 1, **spec: Any) -> list[str]:
        found = truncation.violations(pb.GenerationSpec(prompt="x", **spec), num_tokens)
        return [each.field for each in found]

    assert fields(truncation=END) == ["spec.truncation"]
    assert fields(truncation=END, max_tokens=3) == fields(truncation=END, max_prompt_tokens=3) == []
    assert fields(4, max_prompt_tokens=3) == ["spec.prompt"]
    assert fields(3, max_prompt_tokens=3) == []


@pytest.mark.parametrize(
    ("choice", "expected"),
    [(END, [6, 7, 8, 9]), (BEGINNING, [1, 2, 3, 4]), (BOTH, [1, 2, 8, 9])],
)
def test_tokens_are_left_out_where_the_caller_chose(choice: int, expected: list[int]) -> None:
    whole, wanted = list(range(1, 10)), Limit(4, choice)  # type: ignore[arg-type]
    assert truncation.shorten(whole, wanted, MODEL, "spec.token_ids") == expected
    assert truncation.shorten(whole[:4], wanted, MODEL, "spec.token_ids") == whole[:4]
    longer = Limit(5, choice)  # type: ignore[arg-type]
    with_bos = truncation.shorten([BOS, *whole], longer, MODEL, "spec.prompt")
    assert with_bos == [BOS, *expected]


def test_a_text_keeps_what_the_tokenizer_adds() -> None:
    ids = MODEL.tokenizer.encode_prompt("the cat sat on the mat", "spec.prompt")
    assert MODEL.tokenizer.added_tokens == ([BOS], [])
    shortened = truncation.shorten(ids, Limit(3, END), MODEL, "spec.prompt")
    assert shortened == [BOS, *ids[-2:]]
    with pytest.raises(InvalidRequestError, match=r"spec\.prompt: cannot be cut to 1 tokens"):
        truncation.shorten(ids, Limit(1, END), MODEL, "spec.prompt")


def chat_of(*messages: str) -> pb.Chat:
    roles = {"s": pb.ROLE_SYSTEM, "u": pb.ROLE_USER, "a": pb.ROLE_ASSISTANT, "t": pb.ROLE_TOOL}
    return pb.Chat(messages=[pb.ChatMessage(role=roles[m[0]], content=m) for m in messages])


def shortened(
    chat: pb.Chat, room: int, choice: pb.Truncation = END
) -> tuple[list[str], list[pb.Chat]]:
    """The messages that were kept, where each of them is ten tokens; and what was tried."""
    tried = []

    async def encode(chat: pb.Chat) -> EncodedChat:
        tried.append(chat)
        return EncodedChat([len(tried)] * 10 * len(chat.messages), starts_in_reasoning=False)

    async def run() -> list[str]:
        whole = await encode(chat)
        found = await truncation.shorten_chat(chat, whole, Limit(room, choice), encode, "spec.chat")
        return [m.content for m in tried[found.token_ids[0] - 1].messages]

    return asyncio.run(run()), tried


def test_whole_turns_are_left_out_and_no_more_than_need_be() -> None:
    chat = chat_of("s", "u1", "a1", "t1", "a2", "u2", "a3", "u3")
    assert shortened(chat, 80)[0] == ["s", "u1", "a1", "t1", "a2", "u2", "a3", "u3"]
    assert shortened(chat, 79)[0] == ["s", "u2", "a3", "u3"]
    assert shortened(chat, 39)[0] == ["s", "u3"]
    assert shortened(chat, 79, BOTH)[0] == ["s", "u1", "a1", "t1", "a2", "u3"]


def test_a_long_conversation_takes_few_trials() -> None:
    turns = [text for number in range(500) for text in (f"u{number}", f"a{number}")]
    for room in (30, 500, 5001, 9990):
        kept, tried = shortened(chat_of("s", *turns, "u"), room)
        assert kept[0] == "s"
        assert kept[-1] == "u"
        assert len(kept) == 2 + (room - 20) // 20 * 2
        assert len(tried) <= 11


@pytest.mark.parametrize(
    ("messages", "choice", "rule"),
    [
        (["s", "u1", "a1", "u2"], BEGINNING, "cannot be cut at its end"),
        (["s", "u1", "a1", "u2", "a2"], END, "has 30 tokens even without"),
        (["s", "s", "a1"], END, "has 30 tokens even without"),
        (["u1", "u2", "u3"], BOTH, "has 20 tokens even without"),
        (["u1", "a1", "a1"], END, "has 30 tokens even without"),
    ],
)
def test_a_conversation_that_cannot_be_shortened_is_refused(
    messages: list[str], choice: pb.Truncation, rule: str
) -> None:
    with pytest.raises(InvalidRequestError, match=f"spec.chat: {rule}"):
        shortened(chat_of(*messages), 19, choice)
