"""What the version before this one was asked for: each once for each state it was left in."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from miao_client import AsyncClient, Choices, GenerateOptions, JsonSchema
from miao_client.prompts import Prompt

from . import baseline

# What programs are told for the recording that is signed and encrypted.
PROTECTION = {
    "MIAO_SIGNING_KEYS": str(baseline.KEYS),
    "MIAO_ENCRYPTION_KEYS": str(baseline.KEYS),
    "MIAO_ENCRYPTION": "require",
}
_MOST_SECONDS = 60.0
_NUM_TOKENS = 20


class State(StrEnum):
    """How far a generation had come when the recording was made."""

    ENDED = "ended"
    RUNNING = "running"
    WAITING = "waiting"


_LONG = GenerateOptions(max_tokens=160, ignore_eos=True, temperature=0.0, seed=1)
_SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {
            "names": {"type": "array", "items": {"type": "string"}, "minItems": 8, "maxItems": 8},
            "kind": {"enum": ["a", "b"]},
        },
        "required": ["names", "kind"],
        "additionalProperties": False,
    }
)
_CHAT = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Set a reminder for 7 tomorrow morning."},
]

SPECS: dict[str, tuple[Prompt, GenerateOptions]] = {
    "greedy": ("这是一个美好的春天。", _LONG),
    "sampled": ("The city wakes up early and", _LONG | {"temperature": 0.8, "top_p": 0.9}),
    "chat": (_CHAT, _LONG | {"priority": "high"}),
    "answers": ("从前，", _LONG | {"n": 3, "temperature": 0.7, "max_tokens": 60}),
    "best": ("从前，", _LONG | {"best_of": 3, "temperature": 0.7, "max_tokens": 60, "seed": 2}),
    "echo": ("Rain fell all night, and", _LONG | {"echo": True, "logprobs": 2}),
    "stops": ("我想退货，应该怎么办？", _LONG | {"stop": ["zzz"], "min_tokens": 8}),
    "penalties": (
        "Once upon a time",
        _LONG | {"repetition_penalty": 1.2, "presence_penalty": 0.3, "bad_words": [" the"]},
    ),
    "schema": ("Names:", GenerateOptions(max_tokens=200, temperature=0.0, response_format=_SCHEMA)),
    "choices": (
        "很好用！",
        GenerateOptions(
            max_tokens=8, temperature=0.0, priority="low", response_format=Choices("好", "坏")
        ),
    ),
}


async def create(client: AsyncClient, name: str, state: State) -> str:
    """Ask for one, and do not wait for it; its id."""
    prompt, options = SPECS[name]
    created = await client.create(prompt, request_id=f"{name}-{state}", **options)
    return created.generation_id


async def begin(client: AsyncClient) -> None:
    """Ask for all; return when each is in its midst, where the shortest may have ended."""

    async def wait(generation_id: str) -> None:
        async with client.follow(generation_id) as stream:
            async for chunk in stream:
                if chunk.sequence_number >= _NUM_TOKENS:
                    return

    ids = [await create(client, name, State.RUNNING) for name in SPECS]
    async with asyncio.timeout(_MOST_SECONDS):
        await asyncio.gather(*map(wait, ids))
