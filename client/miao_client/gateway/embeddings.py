"""Embeddings, as OpenAI's clients ask for them."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from miao_client.gateway.fields import Fields
from miao_client.understanding_results import Embeddings


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """What is asked for, and how it is to be answered."""

    inputs: list[str]
    options: dict[str, Any]
    as_base64: bool


def read(fields: Fields) -> EmbeddingsRequest:
    """Read a request.

    Raises:
        Refusal: A field is wrong, or cannot be honoured.
    """
    inputs = fields.needed("input", fields.take("input"))
    inputs = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(inputs, list) or not inputs:
        raise fields.wrong("input", "must be a string or an array of strings")
    if not all(isinstance(each, str) for each in inputs):
        raise fields.wrong("input", "must be text: token ids belong to one tokenizer alone")
    options = {
        "model": fields.text("model"),
        "dimensions": fields.integer("dimensions"),
        "prompt_name": fields.text("prompt_name"),
        "normalize": fields.boolean("normalize"),
        "overlong": fields.choice("overlong", ("refuse", "cut")),
        "priority": fields.choice("priority", ("low", "normal", "high")),
        "timeout": fields.number("timeout"),
        "queue_timeout": fields.number("queue_timeout"),
    }
    form = fields.choice("encoding_format", ("float", "base64"))
    fields.text("user")  # who asks is known by the credential; this changes no answer
    fields.finish()
    given = {name: value for name, value in options.items() if value is not None}
    return EmbeddingsRequest(inputs, given, as_base64=form == "base64")


def write(found: Embeddings, as_base64: bool) -> dict[str, Any]:
    """The answer."""
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(each.data).decode() if as_base64 else each.values,
            }
            for index, each in enumerate(found.embeddings)
        ],
        "model": found.model,
        "usage": {"prompt_tokens": found.input_tokens, "total_tokens": found.input_tokens},
    }
