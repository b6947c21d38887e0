"""What a caller may pass as a prompt, and how it is written into a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeAlias, TypeGuard

from miao.v1 import generation_pb2 as pb
from miao_client.errors import InvalidRequestError
from miao_client.tools import ToolCall


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `role` is "system", "user", "assistant" or "tool".

    An assistant may have thought, and called functions; the answer to a call is
    a "tool" message with that call's id.
    """

    role: str
    content: str
    reasoning: str = ""
    tool_calls: Sequence[ToolCall] = ()
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A prompt as token ids of the model's vocabulary, taken as they are."""

    ids: Sequence[int]


# A text, messages (`Message`, or dicts with "role" and "content"), or the tokens themselves.
Prompt: TypeAlias = str | TokenIds | Sequence[int] | Sequence[Message | Mapping[str, Any]]

_ROLES: dict[object, pb.Role] = {
    "system": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
}
_ROLE_RULE = 'must be "system", "user", "assistant" or "tool"'


class _TextInput(Protocol):
    """The part that a generation's spec and a tokenize request have in common."""

    prompt: str

    @property
    def chat(self) -> pb.Chat: ...


def as_spec(prompt: Prompt) -> pb.GenerationSpec:
    """A spec with nothing but the prompt."""
    spec = pb.GenerationSpec()
    write_prompt(spec, prompt)
    return spec


def write_prompt(spec: pb.GenerationSpec, prompt: Prompt) -> None:
    """Set the spec's input: text, conversation or token ids, by the prompt's type."""
    if isinstance(prompt, TokenIds):
        _write_token_ids(spec, prompt.ids)
    elif _is_list(prompt) and len(prompt) > 0 and isinstance(prompt[0], int):
        _write_token_ids(spec, prompt)
    else:
        write_text(spec, prompt, "spec")


def write_text(target: _TextInput, prompt: object, path: str = "") -> None:
    """Set the input of a message that takes text or a conversation.

    Raises:
        InvalidRequestError: The prompt is an empty list, or a message is not one.
        TypeError: The prompt is none of the types that it may be.
    """
    prefix = f"{path}." if path else ""
    if isinstance(prompt, str):
        target.prompt = prompt
        return
    if not _is_list(prompt):
        raise TypeError(
            "prompt must be a str, a list of messages or a list of token ids, "
            f"not {type(prompt).__name__}"
        )
    if len(prompt) == 0:
        raise InvalidRequestError.of(f"{prefix}prompt", "must not be an empty list")
    for index, message in enumerate(prompt):
        target.chat.messages.append(_message(message, f"{prefix}chat.messages[{index}]"))


def _is_list(prompt: object) -> TypeGuard[Sequence[object]]:
    return isinstance(prompt, Sequence) and not isinstance(prompt, str | bytes | bytearray)


def _write_token_ids(spec: pb.GenerationSpec, ids: Sequence[object]) -> None:
    if len(ids) == 0:
        raise InvalidRequestError.of("spec.token_ids.ids", "must hold at least one token id")
    try:
        spec.token_ids.ids.extend(ids)  # type: ignore[arg-type]  # checked by protobuf
    except ValueError:
        raise InvalidRequestError.of("spec.token_ids.ids", "must be from 0 to 4294967295") from None


def _message(message: object, path: str) -> pb.ChatMessage:
    if isinstance(message, Mapping):
        message = _of_fields(message, path)
    elif not isinstance(message, Message):
        raise TypeError(f"a message must be a dict or a Message, not {type(message).__name__}")
    if message.role not in _ROLES:
        raise InvalidRequestError.of(f"{path}.role", _ROLE_RULE)
    return pb.ChatMessage(
        role=_ROLES[message.role],
        content=message.content,
        reasoning=message.reasoning,
        tool_calls=[
            pb.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )


_FIELDS = frozenset(field.name for field in fields(Message))


def _of_fields(message: Mapping[str, Any], path: str) -> Message:
    for name in message:
        if name not in _FIELDS:
            raise InvalidRequestError.of(f"{path}.{name}", "is not a field of a message")
    for name in ("role", "content"):
        if name not in message:
            raise InvalidRequestError.of(f"{path}.{name}", "must be set")
    return Message(**message)
