"""A conversation with tools: the model calls functions until it can answer.

    python docs/examples/tool_loop.py "北京明天天气怎么样？"

Needs a model that takes tools, such as Qwen2.5-0.5B-Instruct (`miao models` says which do).
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from miao_client import Client, Message, Tool, ToolCall, tool

MAX_ROUNDS = 8


@tool
def weather(city: str, days: int = 1) -> dict[str, object]:
    """Say what the weather will be in a city, for the next days."""
    return {"city": city, "forecast": ["sunny"] * days}


@tool
def current_time() -> str:
    """Say what time it is, in UTC."""
    return datetime.now(UTC).isoformat(timespec="minutes")


TOOLS = {made.name: made for made in (weather, current_time)}


def run(call: ToolCall, tools: dict[str, Tool]) -> Message:
    """The result of a call; a fault is told to the model, which may try again."""
    try:
        content = tools[call.name].run(call)
    except (TypeError, ValueError) as error:
        content = f"error: {error}"
    return Message("tool", content, tool_call_id=call.id)


def converse(client: Client, question: str, tools: dict[str, Tool]) -> str:
    """Ask, run what the model calls, and return its answer."""
    messages = [Message("user", question)]
    for _ in range(MAX_ROUNDS):
        stream = client.generate(messages, tools=list(tools.values()), max_tokens=512)
        for chunk in stream:
            print(chunk.text, end="", flush=True)
        answer = stream.result()
        messages.append(answer.message)
        if not answer.tool_calls:
            return answer.text
        messages += [run(call, tools) for call in answer.tool_calls]
    raise RuntimeError(f"no answer after {MAX_ROUNDS} rounds of calls")


if __name__ == "__main__":
    with Client() as client:
        converse(client, " ".join(sys.argv[1:]) or "What time is it?", TOOLS)
    print()
