"""What the callers ask for: all of it follows from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from miao_client import GenerateOptions
from miao_client.prompts import Prompt

_TEXTS = (
    "为什么我的手机没有信号？",
    "这是一个美好的春天。",
    "我想退货，应该怎么办？",
    "Set a reminder for 7 tomorrow morning.",
    "The city wakes up early and",
    "My order has not arrived yet.",
    "Rain fell all night, and in the morning",
    "请帮我写一段关于大海的话。",
)
_SYSTEMS = ("You are a helpful assistant.", "你是一个耐心的客服。", None)
_STOPS = (("。",), ("\n", "zzz"), (".", "！"), ("the", "的"))
# None draws from a long tail: see reference.py.
_SAMPLINGS = (
    GenerateOptions(temperature=0.3, top_p=1.0, top_k=0, min_p=0.02),
    GenerateOptions(temperature=0.7, top_p=0.8, top_k=20, min_p=0.0),
    GenerateOptions(temperature=0.8, top_p=0.95, top_k=0, min_p=0.05),
    GenerateOptions(temperature=1.0, top_p=0.9, top_k=10, min_p=0.0),
    GenerateOptions(temperature=1.5, top_p=1.0, top_k=0, min_p=0.1),
)
# Shares of the longest, from and to.
_LENGTHS = ((0.0, 0.04), (0.1, 0.3), (0.1, 0.3), (0.4, 1.0), (0.4, 1.0), (0.4, 1.0))


@dataclass(frozen=True, slots=True)
class Spec:
    """One generation to ask for; the same spec always says the same."""

    index: int
    prompt: Prompt
    options: GenerateOptions


def make_specs(seed: int, count: int, most_tokens: int) -> list[Spec]:
    """Mixed lengths, greedy and seeded sampling, text and chat, stops and log-probabilities."""
    random = Random(f"specs {seed}")
    return [Spec(index, _prompt(random), _options(random, most_tokens)) for index in range(count)]


def _prompt(random: Random) -> Prompt:
    text = f"{random.choice(_TEXTS)} {random.randrange(100)}"
    if random.random() < 0.5:
        return text
    system = random.choice(_SYSTEMS)
    messages = [] if system is None else [{"role": "system", "content": system}]
    return [*messages, {"role": "user", "content": text}]


def _options(random: Random, most_tokens: int) -> GenerateOptions:
    least, most = random.choice(_LENGTHS)
    options = GenerateOptions(
        max_tokens=max(1, round(most_tokens * random.uniform(least, most))),
        seed=random.randrange(1 << 63),
        ignore_eos=random.random() < 0.9,
        temperature=0.0,
    )
    if random.random() < 0.6:
        options |= random.choice(_SAMPLINGS)
    if random.random() < 0.12:
        options["stop"] = random.choice(_STOPS)
    if random.random() < 0.2:
        options["logprobs"] = random.choice([0, 1, 4])
    if random.random() < 0.2:
        options["priority"] = random.choice(["low", "high"])
    return options
