"""Texts and pairs of texts become an encoder's inputs, whole or cut.

What a caller writes is text, also where it looks like a control token: those are
put in by the tokenizer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer

from miao.internal.v1.queue_pb2 import EncoderInput, ModelCard
from miao_service.errors import InvalidRequestError
from miao_service.tokenization import control_tokens

Text = str | tuple[str, str]


@dataclass(frozen=True, slots=True)
class EncodedInput:
    """An input in tokens.

    num_cut_tokens: how many of its tokens were left out, since it is too long.
    spans: where each token is in the text, in code points; None for a special one.
        Empty unless asked for.
    segments: which text of a pair each token is of; 0 for a special one. With spans.
    """

    input: EncoderInput
    num_cut_tokens: int = 0
    spans: Sequence[tuple[int, int] | None] = ()
    segments: Sequence[int] = ()

    @property
    def num_tokens(self) -> int:
        return len(self.input.token_ids)

    @property
    def is_cut(self) -> bool:
        return self.num_cut_tokens > 0


class EncoderTokenizer:
    """The tokenizer of one encoder's card. Safe to use from several threads."""

    def __init__(self, card: ModelCard) -> None:
        """ValueError if the card's tokenizer is not one."""
        try:
            tokenizer = Tokenizer.from_str(card.tokenizer_json)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"the tokenizer of model {card.name!r} cannot be read") from error
        tokenizer.no_padding()
        controls = control_tokens(tokenizer, card)
        tokenizer.add_special_tokens([_as_special(token) for token in controls.values()])
        unknown = card.special_tokens.get("unk_token")
        self._control_ids = {i for i, token in controls.items() if token.content != unknown}
        self._takes_type_ids = card.encoder.takes_type_ids
        self._max_length = card.max_model_length
        self._num_specials = {
            is_pair: tokenizer.num_special_tokens_to_add(is_pair) for is_pair in (False, True)
        }
        text = tokenizer.to_str()
        self._whole, self._cutting = _copy(text), _copy(text)
        self._whole.no_truncation()
        self._cutting.enable_truncation(self._max_length)

    def encode(
        self,
        texts: Sequence[Text],
        path: Callable[[int], str],
        *,
        cut: bool,
        with_spans: bool = False,
    ) -> list[EncodedInput]:
        """The inputs that texts make, in their order.

        Args:
            texts: texts, and pairs of them.
            path: the field of a text by its place, for refusals.
            cut: cut what is too long, in place of refusing it.
            with_spans: say where each token is.

        Raises:
            InvalidRequestError: a text is too long, has no token, or cannot be told from
                a control token.
        """
        tokenizer = self._cutting if cut else self._whole
        encode = tokenizer.encode_batch if with_spans else tokenizer.encode_batch_fast
        encodings = encode(list(texts), add_special_tokens=True)
        return [
            self._checked(encoding, text, path(index), with_spans)
            for index, (encoding, text) in enumerate(zip(encodings, texts, strict=True))
        ]

    def _checked(self, encoding: Any, text: Text, path: str, with_spans: bool) -> EncodedInput:
        ids = encoding.ids
        if len(ids) > self._max_length:
            raise InvalidRequestError.of(
                path,
                f"is {len(ids)} tokens long; the model takes {self._max_length}. Shorten it, or "
                "ask for OVERLONG_CUT",
            )
        if not ids:
            raise InvalidRequestError.of(path, "must give at least one token")
        num_specials = self._num_specials[isinstance(text, tuple)]
        if sum(map(self._control_ids.__contains__, ids)) > num_specials:
            raise InvalidRequestError.of(
                path, "holds text that the model's tokenizer can only read as a control token"
            )
        made = EncoderInput(token_ids=ids)
        if self._takes_type_ids and any(encoding.type_ids):
            made.type_ids.extend(encoding.type_ids)
        num_cut = self._length(text) - len(ids) if encoding.overflowing else 0
        if not with_spans:
            return EncodedInput(made, num_cut)
        segments = [each or 0 for each in encoding.sequence_ids]
        return EncodedInput(made, num_cut, _spans(encoding), segments)

    def _length(self, text: Text) -> int:
        """In tokens, whole. What overflows of a pair does not say it."""
        return len(self._whole.encode_batch_fast([text])[0].ids)


def _spans(encoding: Any) -> list[tuple[int, int] | None]:
    marks = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [None if is_special else span for span, is_special in marks]


def _as_special(token: AddedToken) -> AddedToken:
    return AddedToken(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def _copy(text: str) -> Any:
    """A tokenizer of its own, to which control tokens in a text are text."""
    made = Tokenizer.from_str(text)
    made.encode_special_tokens = True
    return made
