"""The fields that chat completions and completions have in common, as options of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miao_client.formats import Choices, Grammar, JsonSchema, Regex, ResponseFormat
from miao_client.gateway.fields import Fields

# Of the service, beyond OpenAI's; their limits are the service's own.
_NUMBERS = ("top_p", "temperature", "presence_penalty", "frequency_penalty")
_MORE_NUMBERS = ("min_p", "repetition_penalty", "timeout", "queue_timeout")
_MORE_INTEGERS = ("top_k", "min_tokens")

# Who asks is known by the credential, and beginnings are cached anyway: no answer changes.
_ABOUT_THE_CALLER = ("user", "safety_identifier", "prompt_cache_key")

# Of vLLM: what may say what holds here, and nothing else.
_SO_ANYWAY = (
    ("use_beam_search", False, "cannot be true: see best_of"),
    ("length_penalty", 1, "can only be 1: there is no beam search"),
    ("include_stop_str_in_output", False, "cannot be true: stop texts are not shown"),
    ("skip_special_tokens", True, "cannot be false: special tokens are not shown"),
    ("spaces_between_special_tokens", True, "cannot be false"),
    ("return_token_ids", False, "cannot be true"),
    ("return_tokens_as_token_ids", False, "cannot be true"),
)


def options(fields: Fields) -> dict[str, Any]:
    """What a request says of its drawing, its length and its handling."""
    found: dict[str, Any] = {"model": fields.text("model")}
    for name in (*_NUMBERS, *_MORE_NUMBERS):
        found[name] = fields.number(name)
    for name in ("n", "seed", *_MORE_INTEGERS):
        found[name] = fields.integer(name)
    found["ignore_eos"] = fields.boolean("ignore_eos")
    found["priority"] = fields.choice("priority", ("low", "normal", "high"))
    found["stop"] = _stop(fields)
    found["stop_token_ids"] = token_ids(fields, "stop_token_ids")
    found["logit_bias"] = _bias(fields)
    found["bad_words"] = _texts(fields, "bad_words")
    found["bad_token_ids"] = _sequences(fields, "bad_token_ids")
    found["cache_salt"] = fields.text("cache_salt")
    for name in _ABOUT_THE_CALLER:
        fields.text(name)
    for name, said, why in _SO_ANYWAY:
        fields.only(name, said, why=why)
    return {name: value for name, value in found.items() if value is not None}


def response_format(fields: Fields) -> ResponseFormat | None:
    """The form that the output must have; in OpenAI's words, or those of `structured_outputs`."""
    asked = fields.inner("response_format")
    more = fields.inner("structured_outputs")
    if asked is not None and more is not None:
        raise fields.wrong("structured_outputs", "cannot stand beside response_format")
    if more is not None:
        return _structured(more)
    return None if asked is None else _openai_format(asked)


def include_usage(fields: Fields, stream: bool) -> bool:
    """Whether a stream is to end with its usage."""
    asked = fields.inner("stream_options")
    if asked is None:
        return False
    if not stream:
        raise fields.wrong("stream_options", "needs stream to be true")
    wanted = bool(asked.boolean("include_usage"))
    asked.only("include_obfuscation", False, why="cannot be true: nothing is obfuscated")
    asked.finish()
    return wanted


def token_ids(fields: Fields, name: str) -> list[int] | None:
    """An array of token ids."""
    ids = fields.array(name)
    if ids is not None and not all(_is_integer(each) for each in ids):
        raise fields.wrong(name, "must be an array of token ids")
    return ids


def is_token_ids(value: Any) -> bool:
    """Whether a prompt is token ids."""
    return isinstance(value, list) and bool(value) and all(map(_is_integer, value))


def _stop(fields: Fields) -> list[str] | None:
    value = fields.take("stop")
    if value is None:
        return None
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise fields.wrong("stop", "must be a string or an array of strings")
    return texts


def _texts(fields: Fields, name: str) -> list[str] | None:
    texts = fields.array(name)
    if texts is not None and not all(isinstance(text, str) for text in texts):
        raise fields.wrong(name, "must be an array of strings")
    return texts


def _sequences(fields: Fields, name: str) -> list[list[int]] | None:
    sequences = fields.array(name)
    if sequences is not None and not all(map(is_token_ids, sequences)):
        raise fields.wrong(name, "must be an array of arrays of token ids")
    return sequences


def _bias(fields: Fields) -> Mapping[int, float] | None:
    asked = fields.take("logit_bias")
    if asked is None:
        return None
    form = "must be an object of token ids and numbers"
    if not isinstance(asked, dict):
        raise fields.wrong("logit_bias", form)
    bias = {}
    for key, value in asked.items():
        if not key.isascii() or not key.isdigit() or not _is_number(value):
            raise fields.wrong("logit_bias", form)
        bias[int(key)] = value
    return bias


def _openai_format(asked: Fields) -> ResponseFormat | None:
    kind = asked.needed("type", asked.choice("type", ("text", "json_object", "json_schema")))
    found: ResponseFormat | None = None
    if kind == "json_object":
        found = JsonSchema({"type": "object"})
    elif kind == "json_schema":
        inner = asked.needed("json_schema", asked.inner("json_schema"))
        inner.text("name"), inner.text("description")  # for the reader alone
        inner.boolean("strict")  # a schema is always followed to the letter
        found = JsonSchema(inner.needed("schema", inner.take("schema")))
        if not isinstance(found.schema, dict | bool):
            raise inner.wrong("schema", "must be a JSON schema")
        inner.finish()
    asked.finish()
    return found


def _structured(asked: Fields) -> ResponseFormat:
    """The forms that OpenAI's words have none for, under the names that vLLM gives them."""
    found: list[ResponseFormat] = []
    if (schema := asked.take("json")) is not None:
        found.append(JsonSchema(schema))
    if (pattern := asked.text("regex")) is not None:
        found.append(Regex(pattern))
    if (grammar := asked.text("grammar")) is not None:
        found.append(Grammar(grammar))
    if (choices := asked.array("choice")) is not None:
        if not all(isinstance(text, str) for text in choices):
            raise asked.wrong("choice", "must be an array of strings")
        found.append(Choices(*choices))
    asked.finish()
    if len(found) != 1:
        raise asked.wrong("json", "or exactly one of regex, grammar and choice is required")
    return found[0]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
