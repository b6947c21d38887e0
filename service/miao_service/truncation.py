"""Prompts that are too long are shortened as their callers have chosen.

tokens          [bos] a b c d e f g
KEEP_END        [bos]         e f g        special tokens at the ends stay
KEEP_BEGINNING  [bos] a b c
KEEP_BOTH_ENDS  [bos] a           g

conversation    system | user assistant | user assistant | user
KEEP_END        system |                | user assistant | user
KEEP_BOTH_ENDS  system | user assistant |                | user
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from miao.v1 import generation_pb2 as pb
from miao_service.errors import InvalidRequestError, Violation
from miao_service.models import ServedModel
from miao_service.tokenization import EncodedChat

_REFUSALS = frozenset({pb.TRUNCATION_UNSPECIFIED, pb.TRUNCATION_REFUSE})


@dataclass(frozen=True, slots=True)
class Limit:
    """The most tokens that a prompt may have, and what becomes of more."""

    num_tokens: int
    truncation: pb.Truncation

    @classmethod
    def of(cls, model: ServedModel, spec: pb.GenerationSpec) -> Limit | None:
        """None where nothing is to be cut: the checks against the model refuse what is too long."""
        if spec.truncation in _REFUSALS:
            return None
        room = model.card.max_model_length - (spec.max_tokens if spec.HasField("max_tokens") else 1)
        if room < 1:
            length = model.card.max_model_length
            rule = f"must be below {length}, the model's context, not {spec.max_tokens}"
            raise InvalidRequestError.of("spec.max_tokens", rule)
        wanted = spec.max_prompt_tokens if spec.HasField("max_prompt_tokens") else room
        return cls(min(room, wanted), spec.truncation)

    @classmethod
    def of_context(
        cls, model: ServedModel, truncation: pb.Truncation, num_target_tokens: int
    ) -> Limit | None:
        """That of what stands before a target which is never cut."""
        room = model.card.max_model_length - num_target_tokens
        return None if truncation in _REFUSALS or room < 0 else cls(room, truncation)


def violations(spec: pb.GenerationSpec, num_prompt_tokens: int) -> Iterator[Violation]:
    """What of a spec makes no sense, or is exceeded."""
    has_limit = spec.HasField("max_prompt_tokens")
    if spec.truncation not in _REFUSALS and not (has_limit or spec.HasField("max_tokens")):
        rule = "needs max_tokens or max_prompt_tokens, which say how much room there is"
        yield Violation("spec.truncation", rule)
    if has_limit and num_prompt_tokens > spec.max_prompt_tokens:
        most = f"max_prompt_tokens allows {spec.max_prompt_tokens}"
        yield Violation(
            f"spec.{spec.WhichOneof('input')}", f"is {num_prompt_tokens} tokens long; {most}"
        )


def shorten(
    token_ids: Sequence[int], limit: Limit | None, model: ServedModel, path: str
) -> Sequence[int]:
    """As many of the tokens as fit."""
    if limit is None or len(token_ids) <= limit.num_tokens:
        return token_ids
    if limit.num_tokens == 0:
        return []
    before, behind = _specials(token_ids, model)
    end = len(token_ids) - behind
    room = limit.num_tokens - before - behind
    if room < 1:
        raise InvalidRequestError.of(path, f"cannot be cut to {limit.num_tokens} tokens")
    first = {
        pb.TRUNCATION_KEEP_END: 0,
        pb.TRUNCATION_KEEP_BEGINNING: room,
        pb.TRUNCATION_KEEP_BOTH_ENDS: room - room // 2,
    }[limit.truncation]
    return [*token_ids[: before + first], *token_ids[end - (room - first) :]]


async def shorten_chat(
    chat: pb.Chat,
    whole: EncodedChat,
    limit: Limit | None,
    encode: Callable[[pb.Chat], Awaitable[EncodedChat]],
    path: str,
) -> EncodedChat:
    """The conversation with as many of its turns as fit; `whole` is all of it in tokens."""
    if limit is None or len(whole.token_ids) <= limit.num_tokens:
        return whole
    if limit.truncation == pb.TRUNCATION_KEEP_BEGINNING:
        rule = "cannot be cut at its end; ask for TRUNCATION_KEEP_END or _KEEP_BOTH_ENDS"
        raise InvalidRequestError.of(path, rule)
    starts = [at for at, each in enumerate(chat.messages) if each.role == pb.ROLE_USER]
    if limit.truncation == pb.TRUNCATION_KEEP_BOTH_ENDS:
        starts = starts[1:]
    most = len(starts) - 1  # turns that may be left out
    found = whole if most < 1 else await encode(_without(chat, starts[0], starts[most]))
    if len(found.token_ids) > limit.num_tokens:
        rule = f"has {len(found.token_ids)} tokens even without the turns that may be left out"
        raise InvalidRequestError.of(path, f"{rule}; there is room for {limit.num_tokens}")
    fewest, most = 1, most - 1
    while fewest <= most:
        count = (fewest + most) // 2
        longer = await encode(_without(chat, starts[0], starts[count]))
        if len(longer.token_ids) <= limit.num_tokens:
            found, most = longer, count - 1
        else:
            fewest = count + 1
    return found


def _without(chat: pb.Chat, begin: int, end: int) -> pb.Chat:
    """A conversation without the messages from `begin` up to `end`."""
    shorter = pb.Chat()
    shorter.CopyFrom(chat)
    del shorter.messages[begin:end]
    return shorter


def _specials(token_ids: Sequence[int], model: ServedModel) -> tuple[int, int]:
    """How many of the first and of the last tokens are the tokenizer's own additions."""
    before, behind = model.tokenizer.added_tokens
    has_before = list(token_ids[: len(before)]) == before
    has_behind = bool(behind) and list(token_ids[-len(behind) :]) == behind
    return len(before) if has_before else 0, len(behind) if has_behind else 0
