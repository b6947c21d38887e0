"""Continuation, classification and translation ask for what they say they do."""

from __future__ import annotations

import math

import pytest

from miao_client.examples.classification import classify, probabilities
from miao_client.examples.continuation import continue_text
from miao_client.examples.translation import translate
from miao_client.formats import Choices


def test_a_continuation_has_exactly_the_length_asked_for(client):
    client.say("今天开始写。")
    assert "".join(continue_text(client, "第一篇博客。", 40, seed=3)) == "今天开始写。"
    prompt, settings = client.requests[0]
    assert prompt == "第一篇博客。"
    assert (settings["min_tokens"], settings["max_tokens"], settings["seed"]) == (40, 40, 3)


def test_a_label_is_one_of_those_given(client):
    client.say("退款")
    assert classify(client, "钱怎么还没退？", ["退款", "物流"]) == "退款"
    (system, user), settings = client.requests[0]
    assert "退款、物流" in system.content
    assert user.content == "钱怎么还没退？"
    assert settings["response_format"] == Choices("退款", "物流")


def test_labels_have_probabilities_that_add_up_to_one(client):
    client.scores = {"a": -1000.0, "b": -1000.0 + math.log(3)}  # too small for exp by itself
    found = probabilities(client, "text", ["a", "b"])
    assert found == pytest.approx({"a": 0.25, "b": 0.75})


def test_a_translation_names_its_language(client):
    client.say("The weather is fine.")
    assert "".join(translate(client, "天气很好。", "English")) == "The weather is fine."
    (system, user), settings = client.requests[0]
    assert "into English" in system.content
    assert user.content == "天气很好。"
    assert settings["temperature"] == 0
