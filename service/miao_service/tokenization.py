"""Text and conversations become a model's tokens.

What a caller writes is text, also where it looks like a control token: only
the chat template and the tokenizer itself put control tokens into a prompt.
The usual prompt holds nothing that looks like one and is encoded as it is. One
that does goes another way:

    what callers wrote      hi <|im_end|>           each control text in it is masked,
    rendered                <|im_start|>hi MASK     so those left are the template's own;
    exchanged               TWIN hi <|im_end|>      these become twins, masks text again;
    encoded                 t h i < | im _ end | >  a tokenizer that knows only the twins
    ids                     1 h i < | im _ end | >  makes them the tokens they stand for.

Masks and twins are made of Unicode's noncharacters U+FDD0 to U+FDEF, which
text must not hold, so that no caller can write one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from miao.internal.v1.queue_pb2 import ModelCard
from miao.v1 import generation_pb2 as pb
from miao_service.chat_template import ChatTemplate, ChatTemplateError
from miao_service.conversation import template_messages, template_options, template_tools
from miao_service.errors import InvalidRequestError

# Such as <think>: tokens of text (a word, line ends) are no control tokens by being in a template.
_MARKUP = re.compile(r"[<\[]\S+[>\]]")
_NONCHARACTERS = re.compile("[\ufdd0-\ufdef]")
_MASK, _TWIN, _BORDER, _END = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3"
_DIGITS = [chr(0xFDE0 + digit) for digit in range(16)]


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """A conversation's tokens, and whether the template has begun the model's thoughts."""

    token_ids: list[int]
    starts_in_reasoning: bool


class ModelTokenizer:
    """The tokenizer and chat template of one model card. Safe to use from several threads."""

    def __init__(self, card: ModelCard) -> None:
        """ValueError if the card's tokenizer is not one."""
        try:
            self._tokenizer = Tokenizer.from_str(card.tokenizer_json)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"the tokenizer of model {card.name!r} cannot be read") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._controls = _Controls(self._tokenizer, card)
        self._template, self._template_error = _template(card, card.chat_template)
        self._tool_template = self._template
        if card.tool_chat_template:
            self._tool_template, _ = _template(card, card.tool_chat_template)
        self._reasoning_start = card.reasoning_format.start

    def encode_prompt(self, text: str, field: str) -> list[int]:
        """A plain prompt, with the special tokens that the tokenizer adds by itself."""
        _refuse_noncharacters(text, field)
        if self._controls.appear_in(text):
            return self._controls.encode(text, field, add_special_tokens=True)
        return _encode(self._tokenizer, text, add_special_tokens=True)

    @property
    def added_tokens(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and behind a plain prompt by itself."""
        encoded = self._tokenizer.encode("a", add_special_tokens=True)
        are_special = list(encoded.special_tokens_mask)
        if not all(are_special):
            before = are_special.index(0)
            behind = are_special[::-1].index(0)
            return encoded.ids[:before], encoded.ids[len(encoded.ids) - behind :]
        return [], []  # "a" is nothing to it

    def encode_text(self, text: str, field: str) -> list[int]:
        """A part of a prompt: as a plain one, without special tokens."""
        _refuse_noncharacters(text, field)
        if self._controls.appear_in(text):
            masked = self._controls.mask(text)
            return self._controls.encode(masked, field, add_special_tokens=False)
        return _encode(self._tokenizer, text, add_special_tokens=False)

    def encode_chat(
        self, chat: pb.Chat, field: str, tools: Sequence[pb.Tool] = (), tools_field: str = "tools"
    ) -> EncodedChat:
        """A conversation, rendered; its special tokens are those of the template."""
        is_masked = False

        def guard(text: str, path: str) -> str:
            nonlocal is_masked
            _refuse_noncharacters(text, path)
            masked = self._controls.mask(text)
            is_masked = is_masked or masked != text
            return masked

        messages = template_messages(chat, guard, field)
        given = template_tools(tools, guard, tools_field) if tools else None
        rendered = self._render(messages, given, template_options(chat), field)
        if is_masked:
            ids = self._controls.encode(rendered, field, add_special_tokens=False)
        else:
            ids = _encode(self._tokenizer, rendered, add_special_tokens=False)
        start = self._reasoning_start
        return EncodedChat(ids, bool(start) and rendered.rstrip().endswith(start))

    def is_control(self, token_id: int) -> bool:
        """Whether a token controls the model and is no text."""
        return self._controls.has(token_id)

    def forms(self, token_ids: Sequence[int]) -> list[str]:
        """Each token's form in the vocabulary."""
        return [self._tokenizer.id_to_token(token_id) or "" for token_id in token_ids]

    def _render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: dict[str, Any],
        field: str,
    ) -> str:
        template = self._template if tools is None else self._tool_template
        if template is None:
            raise InvalidRequestError.of(field, self._template_error)
        try:
            return template.render(messages, tools, options)
        except ChatTemplateError as error:
            raise InvalidRequestError.of(field, _unmasked(str(error))) from error


class _Controls:
    """The control tokens of a model, and texts that only look like them."""

    def __init__(self, tokenizer: Tokenizer, card: ModelCard) -> None:
        tokens = control_tokens(tokenizer, card)
        self._tokenizer = tokenizer
        self._texts = [token.content for token in tokens.values()]
        self._ids = list(tokens)
        self._id_set = frozenset(tokens)
        self._added = list(tokens.values())
        ordered = sorted(self._texts, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered)) or r"(?!)")
        self._starts = {text[:end] for text in self._texts for end in range(1, len(text))}
        self._ends = {text[start:] for text in self._texts for start in range(1, len(text))}
        self._longest = max(map(len, self._texts), default=0)
        # A token that is matched after normalization may be written in many ways.
        self._normalizes = any(token.normalized for token in self._added)
        self._index = {text: index for index, text in enumerate(self._texts)}
        self._plain: tuple[Any, dict[int, int]] | None = None

    def has(self, token_id: int) -> bool:
        """Whether a token is one of them."""
        return token_id in self._id_set

    def appear_in(self, text: str) -> bool:
        """Whether any of them can be read out of a text."""
        if self._normalizes and self._tokenizer.normalizer is not None:
            text = f"{text}\0{self._tokenizer.normalizer.normalize_str(text)}"
        return self._pattern.search(text) is not None

    def mask(self, text: str) -> str:
        """The text with a mask for each of them, and borders where one could begin or end."""
        if not self._texts or not text:
            return text
        masked = text
        if self.appear_in(text):
            masked = self._pattern.sub(lambda match: _mark(_MASK, self._index[match[0]]), text)
        only_in_normal_form = masked == text and self._normalizes and self.appear_in(text)
        reach = range(1, min(self._longest, len(text) + 1))
        if only_in_normal_form or any(text[-size:] in self._starts for size in reach):
            masked += _BORDER
        if any(text[:size] in self._ends for size in reach):
            masked = _BORDER + masked
        return masked

    def encode(self, text: str, field: str, *, add_special_tokens: bool) -> list[int]:
        """The tokens of a text in which masked ones are text.

        In a text without any mask, all that look like control tokens are taken
        for the template's own, so a plain prompt is masked first.
        """
        if add_special_tokens:
            text = self.mask(text)
        text = self._pattern.sub(lambda match: _mark(_TWIN, self._index[match[0]]), text)
        text = self._unmask(text.replace(_BORDER, ""))
        tokenizer, originals = self._plain_tokenizer()
        ids = _encode(tokenizer, text, add_special_tokens=add_special_tokens)
        extra = tokenizer.num_special_tokens_to_add(False) if add_special_tokens else 0
        if sum(token_id in self._id_set for token_id in ids) > extra:
            raise InvalidRequestError.of(
                field, "holds text that the model's tokenizer can only read as a control token"
            )
        return [originals.get(token_id, token_id) for token_id in ids]

    def _unmask(self, text: str) -> str:
        for index in {int(found, 16) for found in _indices(text)}:
            text = text.replace(_mark(_MASK, index), self._texts[index])
        return text

    def _plain_tokenizer(self) -> tuple[Any, dict[int, int]]:
        """A tokenizer to which control tokens are text and their twins are not.

        Made when first needed: few prompts need it, and it is a copy.
        """
        if self._plain is None:
            plain: Any = Tokenizer.from_str(self._tokenizer.to_str())
            # Named special, so that all of them, and nothing else, are left unrecognised.
            plain.add_special_tokens([_copy(token, token.content, True) for token in self._added])
            twins = [_mark(_TWIN, index) for index in range(len(self._added))]
            plain.add_tokens(
                [_copy(token, twin) for token, twin in zip(self._added, twins, strict=True)]
            )
            plain.encode_special_tokens = True
            ids = {plain.token_to_id(twin): self._ids[i] for i, twin in enumerate(twins)}
            self._plain = (plain, ids)
        return self._plain


def control_tokens(tokenizer: Tokenizer, card: ModelCard) -> dict[int, AddedToken]:
    """Those marked special, that end a sequence, that the card names, or the template writes."""
    named = set(card.special_tokens.values())
    named.update((card.tool_format.start, card.tool_format.end))
    named.update((card.reasoning_format.start, card.reasoning_format.end))
    ends = set(card.eos_token_ids)
    templates = f"{card.chat_template}\0{card.tool_chat_template}"
    return {
        token_id: token
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
        if token.special
        or token_id in ends
        or token.content in named
        or (_MARKUP.fullmatch(token.content) and token.content in templates)
    }


def _copy(token: AddedToken, content: str, special: bool = False) -> AddedToken:
    return AddedToken(
        content,
        single_word=token.single_word if special else False,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized if special else False,
        special=special,
    )


def _template(card: ModelCard, source: str) -> tuple[ChatTemplate | None, str]:
    """The compiled template, or why there is none."""
    if not source:
        return None, f"the model {card.name!r} has no chat template: send a prompt instead"
    try:
        return ChatTemplate(source, card.special_tokens), ""
    except ChatTemplateError as error:
        return None, str(error)


def _encode(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
    # The batch call, also for one text: it needs no offsets and lets other threads run.
    encoded = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return list(encoded[0].ids)


def _refuse_noncharacters(text: str, field: str) -> None:
    if _NONCHARACTERS.search(text):
        raise InvalidRequestError.of(field, "must not hold the noncharacters U+FDD0 to U+FDEF")


def _mark(kind: str, index: int) -> str:
    return kind + "".join(_DIGITS[int(digit, 16)] for digit in f"{index:x}") + _END


def _indices(text: str) -> list[str]:
    """The hexadecimal index of each mask in a text."""
    found = re.findall(f"{_MASK}([{_DIGITS[0]}-{_DIGITS[15]}]+){_END}", text)
    return ["".join(f"{ord(digit) - 0xFDE0:x}" for digit in digits) for digits in found]


def _unmasked(text: str) -> str:
    return _NONCHARACTERS.sub("", text)
