"""How models mark their thoughts and calls of functions, known from their chat templates."""

from __future__ import annotations

from collections.abc import Collection

from miao.internal.v1.queue_pb2 import ModelCard, ReasoningFormat, ToolFormat

FORMATS = {
    made.name: made
    for made in (
        # Qwen 2.5 and 3, Hermes 2 and 3, and many that were trained alike
        ToolFormat(name="hermes", start="<tool_call>", end="</tool_call>"),
        # Llama 3.1 to 3.3
        ToolFormat(name="llama3", start="<|python_tag|>", is_bare=True),
        # Mistral: a list of objects, or name[ARGS]{...} in later tokenizers
        ToolFormat(name="mistral", start="[TOOL_CALLS]"),
        # Phi-4-mini
        ToolFormat(name="phi4", start="<|tool_call|>", end="<|/tool_call|>"),
        # Llama 4, and small models of several families: [f(a=1), g()]
        ToolFormat(name="pythonic", is_bare=True),
        # An object, or a list of them, that begins the answer
        ToolFormat(name="json", is_bare=True),
    )
}

_PYTHONIC_EXAMPLE = "func_name1(params_name1="  # of Meta's instructions
_FOREIGN = ("<function=", "<arg_key>", "<｜tool▁calls", "<|channel|>", "<|action_start|>")
_REASONING = (
    ReasoningFormat(start="<think>", end="</think>"),
    ReasoningFormat(start="[THINK]", end="[/THINK]"),
)


def detect_tool_format(template: str) -> ToolFormat | None:
    """The format that a chat template teaches; None where it takes no tools, or is not known."""
    if "tools" not in template or any(mark in template for mark in _FOREIGN):
        return None
    for name in ("hermes", "mistral", "phi4"):
        if FORMATS[name].start in template:
            return FORMATS[name]
    if _PYTHONIC_EXAMPLE in template:
        return FORMATS["pythonic"]
    if '"parameters"' in template or FORMATS["llama3"].start in template:
        return FORMATS["llama3"]
    return FORMATS["json"] if '"name"' in template else None


def set_tool_format(card: ModelCard, name: str) -> None:
    """Let a card say the format of this name, or "none"; "auto" leaves what was detected.

    Raises ValueError where the model's chat template takes no tools.
    """
    if name == "auto":
        return
    card.ClearField("tool_format")
    if name == "none":
        return
    if "tools" not in (card.tool_chat_template or card.chat_template):
        raise ValueError(f"--tool-format {name}: the model's chat template takes no tools")
    card.tool_format.CopyFrom(FORMATS[name])


def detect_reasoning_format(template: str, vocabulary: Collection[str]) -> ReasoningFormat | None:
    """How a model marks its thoughts; None where neither template nor vocabulary knows a mark."""
    for made in _REASONING:
        if made.end in template or {made.start, made.end} <= set(vocabulary):
            return made
    return None
