"""Validation: every field of the contract has its rule, and rules hold at their limits."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from miao.v1 import (
    explain_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    score_service_pb2,
    understanding_service_pb2,
)
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao_service import validation
from miao_service.errors import InvalidRequestError
from miao_service.rules import Between, Fields, Mapped, Repeated, Rule, Seconds


def nested(rule: Rule) -> Rule:
    return rule.each if isinstance(rule, Repeated) else rule


def unruled(descriptor: Descriptor, fields: Fields) -> list[str]:
    """The fields of a message, and of those below it, that no rule speaks of."""
    missing = []
    for field in descriptor.fields:
        if field.name not in fields.rules:
            missing.append(field.full_name)
            continue
        rule = nested(fields.rules[field.name])
        if isinstance(rule, Fields):
            missing += unruled(field.message_type, rule)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and not isinstance(
            rule, Mapped | Seconds
        ):  # looked at as a whole, a message would hide fields
            missing.append(field.full_name)
    return missing


def test_every_field_of_every_request_is_honoured_or_refused() -> None:
    methods = [
        method
        for module in (
            generation_service_pb2,
            model_service_pb2,
            score_service_pb2,
            understanding_service_pb2,
            explain_service_pb2,
        )
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert len(methods) == 14
    for method in methods:
        fields = validation.REQUESTS[method.input_type.full_name]
        assert unruled(method.input_type, fields) == []
        assert set(fields.rules) == {field.name for field in method.input_type.fields}


def test_every_rule_of_a_message_names_a_field_it_has() -> None:
    for fields, message in (
        (validation.SPEC, pb.GenerationSpec),
        (validation.SAMPLING, pb.Sampling),
    ):
        assert set(fields.rules) == {field.name for field in message.DESCRIPTOR.fields}


def problems(**spec: Any) -> list[str]:
    request = rpc.GenerateRequest(spec=pb.GenerationSpec(**({"prompt": "x"} | spec)))
    try:
        validation.check(request)
    except InvalidRequestError as error:
        return [violation.field for violation in error.violations]
    return []


@given(st.floats(width=32))
def test_numbers_are_taken_within_their_limits_alone(value: float) -> None:
    for name, low, high, above in (
        ("temperature", 0, 5, False),
        ("top_p", 0, 1, True),
        ("min_p", 0, 1, False),
    ):
        fits = math.isfinite(value) and (value > low if above else value >= low) and value <= high
        assert problems(sampling={name: value}) == ([] if fits else [f"spec.sampling.{name}"])


@given(st.integers(-(2**63) // 10**10, 2**63 // 10**10), st.integers(-(2**31), 2**31 - 1))
def test_durations_are_taken_within_their_limits_alone(seconds: int, nanos: int) -> None:
    total = seconds * 10**9 + nanos
    fits = 0 < total <= 86_400 * 10**9 and seconds >= 0 and 0 <= nanos < 10**9
    expected = [] if fits else ["spec.timeout"]
    assert problems(timeout={"seconds": seconds, "nanos": nanos}) == expected


@given(st.text(max_size=200))
def test_request_ids_are_of_their_alphabet(text: str) -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:")
    fits = len(text) <= 128 and set(text) <= allowed
    request = rpc.GenerateRequest(request_id=text, spec=pb.GenerationSpec(prompt="x"))
    if fits:
        validation.check(request)
    else:
        with pytest.raises(InvalidRequestError, match="request_id"):
            validation.check(request)


@given(st.binary(max_size=400))
def test_whatever_bytes_make_is_taken_or_refused(payload: bytes) -> None:
    try:
        request = rpc.GenerateRequest.FromString(payload)
    except Exception:
        return
    with contextlib.suppress(InvalidRequestError):
        validation.check(request)


@pytest.mark.parametrize(
    "spec",
    [
        {"sampling": {"repetition_penalty": 10, "presence_penalty": -2, "frequency_penalty": 2}},
        {"sampling": {"logit_bias": dict.fromkeys(range(1024), 100.0)}},
        {"n": 16, "best_of": 16, "ranking": pb.RANKING_TOTAL_LOGPROB, "echo": True},
        {"n": 1, "min_tokens": 0, "max_tokens": 1, "logprobs": 0},
        {"bad_words": ["x" * 128] * 128, "bad_token_ids": [{"ids": range(128)}] * 128},
        {"stop": ["x" * 256] * 16, "stop_token_ids": range(64)},
        {"priority": pb.PRIORITY_LOW, "on_disconnect": pb.ON_DISCONNECT_CONTINUE},
        {"sampling": {"seed": 2**64 - 1, "top_k": 0, "top_p": 1.0, "temperature": 0.0}},
        {"timeout": {"nanos": 1}, "queue_timeout": {"seconds": 86_400}},
    ],
)
def test_values_at_their_limits_are_taken(spec: dict[str, Any]) -> None:
    assert problems(**spec) == []


def test_what_must_not_be_said_has_limits() -> None:
    assert problems(bad_words=["x"] * 129) == ["spec.bad_words"]
    assert problems(bad_words=["x", ""]) == ["spec.bad_words[1]"]
    assert problems(bad_words=["x" * 129]) == ["spec.bad_words[0]"]
    assert problems(bad_token_ids=[{}]) == ["spec.bad_token_ids[0].ids"]
    assert problems(bad_token_ids=[{"ids": [0] * 129}]) == ["spec.bad_token_ids[0].ids"]


def test_a_range_says_itself_in_words() -> None:
    (violation,) = Between(0, 5).check(7.5, "spec.sampling.temperature")
    error = InvalidRequestError([violation])
    assert error.message == "spec.sampling.temperature: must be between 0 and 5, not 7.5"
