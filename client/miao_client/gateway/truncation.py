"""How long a prompt may be, and what is left out of a longer one, as options of the SDK."""

from __future__ import annotations

from typing import Any

from miao_client.gateway.fields import Fields
from miao_client.options import Truncation

_SIDES = {"left": Truncation.KEEP_END, "right": Truncation.KEEP_BEGINNING}  # that is cut off


def options(fields: Fields, max_tokens: int | None) -> dict[str, Any]:
    """In the service's own words, or in those of vLLM; `max_tokens` is what the answer may have."""
    choice = fields.choice("truncation", [each.value for each in Truncation])
    most = fields.integer("max_prompt_tokens")
    kept = fields.integer("truncate_prompt_tokens")
    side = fields.choice("truncation_side", list(_SIDES))
    if kept is None:
        if side is not None:
            raise fields.wrong("truncation_side", "needs truncate_prompt_tokens")
    elif choice is not None or most is not None:
        raise fields.wrong(
            "truncate_prompt_tokens", "cannot stand beside truncation or max_prompt_tokens"
        )
    else:
        choice = _SIDES[side or "left"]
        most = _most(fields, kept, max_tokens)
    found = {"truncation": choice, "max_prompt_tokens": most}
    return {name: value for name, value in found.items() if value is not None}


def _most(fields: Fields, kept: int, max_tokens: int | None) -> int | None:
    """The most tokens of the prompt; -1 means what the context holds beside the answer."""
    if kept != -1 and kept < 1:
        raise fields.wrong("truncate_prompt_tokens", "must be -1 or at least 1")
    if kept == -1 and max_tokens is None:
        raise fields.wrong(
            "truncate_prompt_tokens", "can only be -1 beside max_tokens: how much room is there?"
        )
    return None if kept == -1 else kept
