"""Classifies a text by a causal language model, with a probability for each label.

python -m miao_client.examples.classification "我的快递到哪了？" 物流 退款 密码
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from miao_client.examples import terminal
from miao_client.examples.language import language_of
from miao_client.formats import Choices
from miao_client.prompts import Message
from miao_client.sync.client import Client

_INSTRUCTIONS = {
    "zh": "判断用户消息的类别。可选：{}。",
    "en": "Classify the message. Labels: {}.",
}


def question(text: str, labels: Sequence[str]) -> list[Message]:
    """The labels as instructions, and the text."""
    language = language_of(text)
    listed = ("、" if language == "zh" else ", ").join(labels)
    return [Message("system", _INSTRUCTIONS[language].format(listed)), Message("user", text)]


def classify(client: Client, text: str, labels: Sequence[str]) -> str:
    """The likeliest label: one request, which takes a step for each of the label's tokens."""
    stream = client.generate(
        question(text, labels), response_format=Choices(*labels), temperature=0
    )
    return stream.result().text


def probabilities(client: Client, text: str, labels: Sequence[str]) -> dict[str, float]:
    """How likely each label is, by the model's own likelihood of it; they add up to 1.

    A request for each label; they share the prompt's blocks in the prefix cache.
    """
    asked = question(text, labels)
    scores = [client.score(label, prompt=asked).log_likelihood for label in labels]
    weights = [math.exp(score - max(scores)) for score in scores]
    return {label: w / sum(weights) for label, w in zip(labels, weights, strict=True)}


def main() -> None:
    """Print the likeliest label, then all with their probabilities."""
    parser = argparse.ArgumentParser(prog="python -m miao_client.examples.classification")
    parser.add_argument("text")
    parser.add_argument("labels", nargs="+")
    parser.add_argument("--target")
    parser.add_argument("--model")
    given = parser.parse_args()
    with terminal.reporting(), Client(given.target, model=given.model) as client:
        print(classify(client, given.text, given.labels))
        found = probabilities(client, given.text, given.labels)
        for label in sorted(found, key=lambda label: -found[label]):
            print(f"{found[label]:7.1%}  {label}")


if __name__ == "__main__":
    main()
