"""Requests are built from arguments; None is unset and 0 is a value."""

from __future__ import annotations

from typing import Any

import pytest

from miao.v1 import generation_pb2 as pb
from miao_client import InvalidRequestError, Message, OnDisconnect, Priority, TokenIds
from miao_client.options import GenerateOptions, submission


def spec_of(prompt: Any = "hello", **options: Any) -> pb.GenerationSpec:
    return submission(prompt, **options).request.spec


def test_nothing_is_set_that_was_not_said() -> None:
    spec = spec_of("hello", **dict.fromkeys(GenerateOptions.__annotations__))
    assert spec == pb.GenerationSpec(prompt="hello", on_disconnect=pb.ON_DISCONNECT_CONTINUE)


@pytest.mark.parametrize("name", ["max_tokens", "min_tokens", "logprobs", "ignore_eos"])
def test_zero_is_a_value(name: str) -> None:
    spec = spec_of(**{name: 0})
    assert spec.HasField(name)
    assert getattr(spec, name) == 0


@pytest.mark.parametrize(
    "name",
    ["temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty"],
)
def test_zero_is_a_value_of_sampling(name: str) -> None:
    spec = spec_of(**{name: 0})
    assert spec.sampling.HasField(name)
    assert getattr(spec.sampling, name) == 0


def test_every_option_reaches_its_field() -> None:
    spec = spec_of(
        model="m",
        temperature=0.5,
        top_p=0.25,
        top_k=3,
        min_p=0.125,
        seed=2**64 - 1,
        repetition_penalty=1.5,
        presence_penalty=-0.5,
        frequency_penalty=0.75,
        logit_bias={7: -2.0, 9: 1.0},
        max_tokens=5,
        min_tokens=3,
        stop=["a", "b"],
        stop_token_ids=[1, 2],
        ignore_eos=True,
        bad_words="x",
        truncation="keep_both_ends",
        max_prompt_tokens=9,
        cache_salt="s",
        bad_token_ids=[[3, 4], (5,)],
        logprobs=4,
        priority=Priority.HIGH,
        timeout=1.5,
        queue_timeout=0.25,
        on_disconnect=OnDisconnect.CANCEL,
    )
    expected = pb.GenerationSpec(
        model="m",
        prompt="hello",
        sampling=pb.Sampling(
            temperature=0.5,
            top_p=0.25,
            top_k=3,
            min_p=0.125,
            seed=2**64 - 1,
            repetition_penalty=1.5,
            presence_penalty=-0.5,
            frequency_penalty=0.75,
            logit_bias={7: -2.0, 9: 1.0},
        ),
        max_tokens=5,
        min_tokens=3,
        stop=["a", "b"],
        stop_token_ids=[1, 2],
        ignore_eos=True,
        bad_words=["x"],
        truncation=pb.TRUNCATION_KEEP_BOTH_ENDS,
        max_prompt_tokens=9,
        cache_salt="s",
        bad_token_ids=[pb.TokenIds(ids=[3, 4]), pb.TokenIds(ids=[5])],
        logprobs=4,
        priority=pb.PRIORITY_HIGH,
        on_disconnect=pb.ON_DISCONNECT_CANCEL,
    )
    expected.timeout.FromMilliseconds(1500)
    expected.queue_timeout.FromMilliseconds(250)
    assert spec == expected


def test_empty_text_is_a_prompt() -> None:
    assert spec_of("").WhichOneof("input") == "prompt"


@pytest.mark.parametrize("prompt", [[3, 1], (3, 1), TokenIds([3, 1]), range(3, 0, -2)])
def test_token_ids_are_taken_as_they_are(prompt: Any) -> None:
    assert list(spec_of(prompt).token_ids.ids) == [3, 1]


def test_messages_are_dicts_or_dataclasses() -> None:
    spec = spec_of([{"role": "system", "content": "s"}, Message("user", "u")])
    assert [(m.role, m.content) for m in spec.chat.messages] == [
        (pb.ROLE_SYSTEM, "s"),
        (pb.ROLE_USER, "u"),
    ]


def test_one_stop_text_is_not_a_list_of_characters() -> None:
    assert list(spec_of(stop="end").stop) == ["end"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"prompt": []}, "spec.prompt"),
        ({"prompt": TokenIds([])}, "spec.token_ids.ids"),
        ({"prompt": [1, -2]}, "spec.token_ids.ids"),
        ({"prompt": [{"role": "robot", "content": ""}]}, "spec.chat.messages[0].role"),
        ({"prompt": [{"role": "user"}]}, "spec.chat.messages[0].content"),
        (
            {"prompt": [{"role": "user", "content": "", "name": "x"}]},
            "spec.chat.messages[0].name",
        ),
        ({"max_tokens": -1}, "spec.max_tokens"),
        ({"seed": 2**64}, "spec.sampling.seed"),
        ({"top_k": -1}, "spec.sampling.top_k"),
        ({"stop_token_ids": [-1]}, "spec.stop_token_ids"),
        ({"bad_token_ids": [[1], [-1]]}, "spec.bad_token_ids[1].ids"),
        ({"bad_words": ["\ud800"]}, "spec.bad_words"),
        ({"model": "\ud800"}, "spec.model"),
        ({"truncation": "cut"}, "spec.truncation"),
        ({"max_prompt_tokens": -1}, "spec.max_prompt_tokens"),
        ({"priority": "urgent"}, "spec.priority"),
        ({"on_disconnect": "wait"}, "spec.on_disconnect"),
        ({"timeout": 0}, "spec.timeout"),
        ({"timeout": float("nan")}, "spec.timeout"),
        ({"queue_timeout": -1}, "spec.queue_timeout"),
        ({"timeout": 86_401}, "spec.timeout"),
    ],
)
def test_what_does_not_fit_names_its_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        submission(options.pop("prompt", "hello"), **options)
    assert [violation.field for violation in caught.value.violations] == [field]


@pytest.mark.parametrize("prompt", [None, 3, b"bytes", {"role": "user"}, ["text"], [None]])
def test_another_kind_of_prompt_is_a_type_error(prompt: Any) -> None:
    with pytest.raises(TypeError):
        submission(prompt)


@pytest.mark.parametrize("options", [{"temperature": "hot"}, {"max_tokens": 1.5}, {"tone": 1}])
def test_a_wrong_type_or_name_is_a_type_error(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        submission("hello", **options)


def test_each_request_has_a_key_of_its_own_unless_given() -> None:
    first, second = submission("hello").request, submission("hello").request
    assert first.request_id != second.request_id
    assert submission("hello", request_id="mine").request.request_id == "mine"


@pytest.mark.parametrize(
    ("choice", "on_wire", "cancels"),
    [
        (None, pb.ON_DISCONNECT_CONTINUE, True),
        ("continue", pb.ON_DISCONNECT_CONTINUE, False),
        ("cancel", pb.ON_DISCONNECT_CANCEL, True),
    ],
)
def test_leaving_a_stream_cancels_unless_asked_to_continue(
    choice: str | None, on_wire: int, cancels: bool
) -> None:
    built = submission("hello", on_disconnect=choice)
    assert built.request.spec.on_disconnect == on_wire
    assert built.cancel_on_close is cancels


def test_a_bias_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"spec\.sampling\.logit_bias"):
        submission("hello", logit_bias={-1: 1.0})
