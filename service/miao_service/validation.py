"""Every field of every request, and what it may hold.

What depends on the model (its vocabulary, its context) is checked where the
model is known, in `resolution`. A field that is not named here is refused by a
test, so that none is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import understanding_pb2 as understanding
from miao.v1.explain_service_pb2 import ExplainRequest, ExplainSpec
from miao.v1.explanation_pb2 import ExplainMethod
from miao.v1.model_service_pb2 import TokenizeRequest
from miao.v1.score_service_pb2 import ScoreRequest
from miao_service.errors import InvalidRequestError, Violation
from miao_service.rules import (
    Anything,
    AtLeast,
    Between,
    Bytes,
    Characters,
    Fields,
    Known,
    Mapped,
    Matches,
    Repeated,
    Rule,
    Seconds,
)
from miao_service.tool_rules import (
    JsonObject,
    chat_violations,
    repeated_tools,
    tool_violations,
)

MAX_TEXT_BYTES = 4 * 1024 * 1024
MAX_INPUTS = 1024
MAX_INPUT_BYTES = 1024 * 1024
MAX_PAGE_SIZE = 1000
MAX_ANSWERS = 16
_DAY_SECONDS = 24 * 60 * 60
_UINT32 = 2**32 - 1

_REQUEST_ID = Matches(
    re.compile(r"[A-Za-z0-9_.:-]{1,128}"), "1 to 128 of the characters A-Z a-z 0-9 _ - . :"
)
_MODEL = Characters(0, 256)
_GENERATION_ID = Characters(1, 64)
_TEXT = Bytes(MAX_TEXT_BYTES)

SAMPLING = Fields(
    {
        "temperature": Between(0, 5),
        "top_p": Between(0, 1, above=True),
        "top_k": Between(0, _UINT32),
        "min_p": Between(0, 1),
        "seed": Anything(),
        "repetition_penalty": Between(0, 10, above=True),
        "presence_penalty": Between(-2, 2),
        "frequency_penalty": Between(-2, 2),
        "logit_bias": Mapped(1024, Between(-100, 100)),
    }
)

_NAME_FORM = "1 to 64 of the characters A-Z a-z 0-9 _ -"
_NAME = Matches(re.compile(r"[A-Za-z0-9_-]{1,64}"), _NAME_FORM)
_MAX_TOOLS = 128
_MAX_BAD_WORDS = 128

TOOL = Fields(
    {
        "name": _NAME,
        "description": Bytes(16 * 1024),
        "parameters_json_schema": JsonObject(64 * 1024, is_schema=True),
    },
    required=frozenset({"name"}),
)
TOOL_CALL = Fields(
    {"id": _NAME, "name": _NAME, "arguments_json": JsonObject(1024 * 1024)},
    required=frozenset({"id", "name"}),
)
TOOL_CHOICE = Fields(
    {
        "mode": Known(pb.ToolChoiceMode, frozenset({pb.TOOL_CHOICE_MODE_UNSPECIFIED})),
        "name": _NAME,
    },
    one_of=frozenset({"choice"}),
)
CHAT_MESSAGE = Fields(
    {
        "role": Known(pb.Role, frozenset({pb.ROLE_UNSPECIFIED})),
        "content": _TEXT,
        "reasoning": _TEXT,
        "tool_calls": Repeated(0, _MAX_TOOLS, TOOL_CALL),
        "tool_call_id": _NAME,
    },
)
CHAT = Fields({"messages": Repeated(1, 1024, CHAT_MESSAGE), "enable_thinking": Anything()})
TOKEN_IDS = Fields({"ids": Repeated(1, None)})

RESPONSE_FORMAT = Fields(
    {
        "json_schema": Bytes(64 * 1024),
        "regex": Bytes(8 * 1024),
        "grammar": Bytes(64 * 1024),
        "choices": Fields({"texts": Repeated(1, 1024, Characters(1, 1024))}),
    },
    one_of=frozenset({"format"}),
)

SPEC = Fields(
    {
        "model": _MODEL,
        "prompt": _TEXT,
        "chat": CHAT,
        "token_ids": TOKEN_IDS,
        "sampling": SAMPLING,
        "max_tokens": Anything(),
        "min_tokens": Anything(),
        "stop": Repeated(0, 16, Characters(1, 256)),
        "stop_token_ids": Repeated(0, 64),
        "ignore_eos": Anything(),
        "logprobs": Between(0, 20),
        "n": Between(1, MAX_ANSWERS),
        "response_format": RESPONSE_FORMAT,
        "tools": Repeated(0, _MAX_TOOLS, TOOL),
        "priority": Known(pb.Priority),
        "timeout": Seconds(_DAY_SECONDS),
        "queue_timeout": Seconds(_DAY_SECONDS),
        "on_disconnect": Known(pb.OnDisconnect),
        "best_of": Between(1, MAX_ANSWERS),
        "ranking": Known(pb.Ranking),
        "echo": Anything(),
        "prompt_logprobs": Between(0, 20),
        "bad_words": Repeated(0, _MAX_BAD_WORDS, Characters(1, 128)),
        "bad_token_ids": Repeated(0, _MAX_BAD_WORDS, Fields({"ids": Repeated(1, 128)})),
        "truncation": Known(pb.Truncation),
        "max_prompt_tokens": AtLeast(1),
        "cache_salt": Characters(0, 256),
        "tool_choice": TOOL_CHOICE,
    },
    one_of=frozenset({"input"}),
)

SCORE_SPEC = Fields(
    {
        "model": _MODEL,
        "text": _TEXT,
        "token_ids": TOKEN_IDS,
        "prompt": _TEXT,
        "chat": CHAT,
        "prompt_token_ids": TOKEN_IDS,
        "top_logprobs": Between(0, 20),
        "priority": Known(pb.Priority),
        "timeout": Seconds(_DAY_SECONDS),
        "queue_timeout": Seconds(_DAY_SECONDS),
        "truncation": Known(pb.Truncation),
    },
    one_of=frozenset({"target"}),
)

_INPUT = Bytes(MAX_INPUT_BYTES)
_INPUTS = Repeated(1, MAX_INPUTS, _INPUT)
HANDLING = Fields(
    {
        "priority": Known(pb.Priority),
        "timeout": Seconds(_DAY_SECONDS),
        "queue_timeout": Seconds(_DAY_SECONDS),
        "on_disconnect": Known(pb.OnDisconnect),
    }
)
CLASSIFY_INPUT = Fields({"text": _INPUT, "text_pair": _INPUT})
EXPLAIN_SPEC = Fields(
    {
        "model": _MODEL,
        "prompt": _TEXT,
        "chat": CHAT,
        "token_ids": TOKEN_IDS,
        "classify": CLASSIFY_INPUT,
        "output_text": _TEXT,
        "output_token_ids": TOKEN_IDS,
        "max_tokens": Between(1, 64),
        "label": Characters(0, 256),
        "method": Known(ExplainMethod),
        "steps": Between(2, 256),
        "positions": Repeated(0, 64),
        "whole_output": Anything(),
        "candidates": Between(0, 20),
        "handling": HANDLING,
    },
    one_of=frozenset({"input"}),
)
_UNDERSTAND: dict[str, Rule] = {
    "request_id": _REQUEST_ID,
    "model": _MODEL,
    "overlong": Known(understanding.Overlong),
    "handling": HANDLING,
}

_SUBMIT = Fields({"request_id": _REQUEST_ID, "spec": SPEC}, required=frozenset({"spec"}))
_BY_ID = {"generation_id": _GENERATION_ID}
_ID_REQUIRED = frozenset({"generation_id"})

REQUESTS: dict[str, Fields] = {
    "miao.v1.GenerateRequest": _SUBMIT,
    "miao.v1.CreateGenerationRequest": _SUBMIT,
    "miao.v1.FollowGenerationRequest": Fields(
        {
            **_BY_ID,
            "after_sequence_number": Between(0, 2**63 - 1),
            "output_digest": Anything(),
        },
        required=_ID_REQUIRED,
    ),
    "miao.v1.GetGenerationRequest": Fields(
        {**_BY_ID, "include_output": Anything()}, required=_ID_REQUIRED
    ),
    "miao.v1.ListGenerationsRequest": Fields(
        {
            "page_size": Between(0, MAX_PAGE_SIZE),
            "page_token": Characters(0, 128),
            "model": _MODEL,
            "state": Known(pb.GenerationState),
        }
    ),
    "miao.v1.CancelGenerationRequest": Fields(_BY_ID, required=_ID_REQUIRED),
    "miao.v1.ScoreRequest": Fields(
        {"request_id": _REQUEST_ID, "spec": SCORE_SPEC}, required=frozenset({"spec"})
    ),
    "miao.v1.EmbedRequest": Fields(
        {
            **_UNDERSTAND,
            "inputs": _INPUTS,
            "prompt_name": _MODEL,
            "dimensions": AtLeast(1),
            "normalize": Anything(),
        }
    ),
    "miao.v1.ClassifyRequest": Fields(
        {
            **_UNDERSTAND,
            "inputs": Repeated(1, MAX_INPUTS, CLASSIFY_INPUT),
            "top_k": AtLeast(1),
            "raw_scores": Anything(),
        }
    ),
    "miao.v1.RerankRequest": Fields(
        {
            **_UNDERSTAND,
            "query": _INPUT,
            "documents": _INPUTS,
            "top_n": AtLeast(1),
            "raw_scores": Anything(),
        }
    ),
    "miao.v1.SumUsageRequest": Fields(
        {
            "first_day": Characters(0, 10),
            "last_day": Characters(0, 10),
            "tenant": Characters(0, 63),
            "all_tenants": Anything(),
        }
    ),
    "miao.v1.ListUsageRecordsRequest": Fields(
        {
            "page_size": Between(0, MAX_PAGE_SIZE),
            "page_token": Characters(0, 128),
            "tenant": Characters(0, 63),
        }
    ),
    "miao.v1.GetFleetRequest": Fields({}),
    "miao.v1.ListAuditRecordsRequest": Fields(
        {"page_size": Between(0, MAX_PAGE_SIZE), "page_token": Characters(0, 128)}
    ),
    "miao.v1.ExplainRequest": Fields(
        {"request_id": _REQUEST_ID, "spec": EXPLAIN_SPEC}, required=frozenset({"spec"})
    ),
    "miao.v1.ListModelsRequest": Fields({}),
    "miao.v1.GetModelRequest": Fields({"name": _MODEL}),
    "miao.v1.TokenizeRequest": Fields(
        {
            "model": _MODEL,
            "prompt": _TEXT,
            "chat": CHAT,
            "tools": Repeated(0, _MAX_TOOLS, TOOL),
        },
        one_of=frozenset({"input"}),
    ),
}


def check(request: Message) -> None:
    """Raise InvalidRequestError with everything that is wrong with the request."""
    violations = list(REQUESTS[request.DESCRIPTOR.full_name].check(request, ""))
    violations = violations or list(_violations_between(request))
    if violations:
        raise InvalidRequestError(violations)


def _violations_between(request: Any) -> Iterator[Violation]:
    """What is wrong between fields that are fine by themselves."""
    if isinstance(request, rpc.GenerateRequest | rpc.CreateGenerationRequest):
        yield from tool_violations(request.spec)
        yield from chat_violations(request.spec.chat, "spec.chat")
    elif isinstance(request, ScoreRequest):
        yield from chat_violations(request.spec.chat, "spec.chat")
    elif isinstance(request, ExplainRequest):
        yield from chat_violations(request.spec.chat, "spec.chat")
        yield from _explain_violations(request.spec)
    elif isinstance(request, TokenizeRequest):
        yield from repeated_tools(request.tools, "tools")
        yield from chat_violations(request.chat, "chat")
        if request.tools and not request.HasField("chat"):
            yield Violation("tools", "needs chat input")


_OF_OUTPUTS = ("output_text", "output_token_ids", "max_tokens", "candidates")


def _explain_violations(spec: ExplainSpec) -> Iterator[Violation]:
    """What belongs to a model of the other kind, or to another way to give the output."""
    if spec.HasField("classify"):
        given = [name for name in _OF_OUTPUTS if spec.HasField(name)]
        given += ["positions"] * bool(spec.positions) + ["whole_output"] * spec.whole_output
        for name in given:
            yield Violation(f"spec.{name}", "has no meaning with classify")
    elif spec.HasField("label"):
        yield Violation("spec.label", "has no meaning without classify")
    if spec.WhichOneof("answer") and spec.HasField("max_tokens"):
        yield Violation("spec.max_tokens", "has no meaning where the output is given")
    if list(spec.positions) != sorted(set(spec.positions)):
        yield Violation("spec.positions", "must be ascending, each once")
