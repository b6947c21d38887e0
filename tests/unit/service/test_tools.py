"""Tools and calls in conversations: as templates expect them, and nothing smuggled in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers.utils.chat_template_utils import _compile_jinja_template

from miao.internal.v1.queue_pb2 import ModelCard, ReasoningFormat, ToolFormat
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as rpc
from miao.v1 import model_service_pb2
from miao_service import validation
from miao_service.conversation import template_messages, template_tools
from miao_service.errors import InvalidRequestError
from miao_service.tokenization import ModelTokenizer
from miao_worker.tool_formats import FORMATS, detect_reasoning_format, detect_tool_format

QWEN = """{%- if tools %}<|im_start|>system
# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
Answer with <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>
{% endif %}{%- for m in messages %}
{%- if m.role == 'tool' %}<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>
{% endif %}{{ m.content }}{% for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking %}<think>
{% endif %}{% endif %}"""
LLAMA3 = """{{ bos_token }}{% if tools %}<|start_header_id|>system<|end_header_id|>

Environment: ipython
Respond with {"name": function name, "parameters": dictionary}. {% for t in tools %}
{{ t | tojson(indent=4) }}{% endfor %}<|eot_id|>{% endif %}{% for m in messages %}
{%- if 'tool_calls' in m %}{%- set call = m.tool_calls[0].function %}
<|start_header_id|>assistant<|end_header_id|>

<|python_tag|>{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}<|eot_id|>
{%- elif m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>

{{ m.content | tojson }}<|eot_id|>
{%- else %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}
<|start_header_id|>assistant<|end_header_id|>

"""
MISTRAL = """{{ bos_token }}{% if tools %}[AVAILABLE_TOOLS][{% for t in tools %}
{"type": "function", "function": {% set f = t.function %}{"name": "{{ f.name }}", "description":
"{{ f.description }}", "parameters": {{ f.parameters | tojson }}}}{% endfor %}][/AVAILABLE_TOOLS]
{%- endif %}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]
{%- elif m.tool_calls is defined %}[TOOL_CALLS][{% for c in m.tool_calls %}
{%- if c.id | length != 9 %}{{ raise_exception('ids have length 9') }}{% endif %}
{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}, "id":
"{{ c.id }}"}{% endfor %}]{{ eos_token }}{% elif m.role == 'tool' %}[TOOL_RESULTS]{"content":
{{ m.content | tojson }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]
{%- else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"""
GEMMA = """{{ bos_token }}{% if tools %}<start_of_turn>user
You may call functions: answer {"name": ..., "arguments": ...}
{% for t in tools %}{{ t.function.name }}: {{ t.function.description }}
{{ t.function.parameters | tojson }}{% endfor %}<end_of_turn>
{% endif %}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else 'user' }}
{{ m.name or '' }}{{ m.content | trim }}{% for c in m.tool_calls or [] %}
{{ c.function | tojson }}{% endfor %}<end_of_turn>
{% endfor %}<start_of_turn>model
"""
PHI = """<|system|>You are helpful.{% if tools %}<|tool|>{{ tools | tojson }}<|/tool|>{% endif %}
{%- for m in messages %}{% if m.role == 'tool' %}<|tool_response|>{{ m.content }}<|end|>
{%- else %}<|{{ m.role }}|>{{ m.content }}{% if m.tool_calls %}<|tool_call|>
{{- m.tool_calls | tojson }}<|/tool_call|>{% endif %}<|end|>{% endif %}{% endfor %}<|assistant|>"""

# Special tokens, and added ones that are not marked special, of each family.
FAMILIES: dict[str, tuple[str, list[str], list[str]]] = {
    "qwen": (
        QWEN,
        ["<|im_start|>", "<|im_end|>"],
        ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
        + ["<think>", "</think>"],
    ),
    "llama3": (
        LLAMA3,
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
        + ["<|python_tag|>"],
        [],
    ),
    "mistral": (
        MISTRAL,
        ["<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]"]
        + ["[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"],
        [],
    ),
    "gemma": (GEMMA, ["<bos>", "<start_of_turn>", "<end_of_turn>"], []),
    "phi": (
        PHI,
        ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        ["<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>"],
    ),
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
}


def tokenizer_of(family: str) -> Tokenizer:
    _, special, added = FAMILIES[family]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({char: index for index, char in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in added])
    return made


def card_of(family: str) -> ModelCard:
    template, special, _ = FAMILIES[family]
    made = tokenizer_of(family)
    return ModelCard(
        name=family,
        tokenizer_json=made.to_str(),
        chat_template=template,
        special_tokens={"bos_token": special[0], "eos_token": special[1]},
        tool_format=detect_tool_format(template),
        reasoning_format=detect_reasoning_format(template, made.get_vocab()),
    )


def conversation(text: str = "x", key: str = "city") -> tuple[pb.Chat, list[pb.Tool]]:
    """A round of calls in which callers wrote this text wherever they may."""
    chat = pb.Chat(
        messages=[
            pb.ChatMessage(role=pb.ROLE_USER, content=text),
            pb.ChatMessage(
                role=pb.ROLE_ASSISTANT,
                content=text,
                reasoning=text,
                tool_calls=[
                    pb.ToolCall(
                        id="abcdefgh1", name="weather", arguments_json=json.dumps({key: [text]})
                    )
                ],
            ),
            pb.ChatMessage(role=pb.ROLE_TOOL, content=text, tool_call_id="abcdefgh1"),
            pb.ChatMessage(role=pb.ROLE_USER, content=text),
        ]
    )
    schema = {**SCHEMA, "properties": {key: {"type": "string", "description": text}}}
    tool = pb.Tool(name="weather", description=text, parameters_json_schema=json.dumps(schema))
    return chat, [tool]


def controls_in(family: str, text: str, key: str = "city") -> list[int]:
    chat, tools = conversation(text, key)
    ids = ModelTokenizer(card_of(family)).encode_chat(chat, "chat", tools).token_ids
    added = tokenizer_of(family).get_added_tokens_decoder()
    return [token_id for token_id in ids if token_id in added]


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_that_a_caller_writes_becomes_a_control_token(family: str) -> None:
    _, special, added = FAMILIES[family]
    harmless = controls_in(family, "x")
    assert len(harmless) > 5
    for control in [*special, *added]:
        written = f"a {control}b{control[:3]}"
        assert controls_in(family, written, key=f"k{control}") == harmless, control
        assert controls_in(family, control[1:]) == harmless
        assert controls_in(family, control[:-1]) == harmless


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_is_read_as_it_was(family: str) -> None:
    control = FAMILIES[family][1][0]
    card = card_of(family)
    chat, tools = conversation(f"say {control}!")
    ids = ModelTokenizer(card).encode_chat(chat, "chat", tools).token_ids
    text = tokenizer_of(family).decode(ids, skip_special_tokens=False)
    rendered = _compile_jinja_template(card.chat_template).render(
        messages=template_messages(chat, lambda text, _: text, ""),
        tools=template_tools(tools, lambda text, _: text, ""),
        add_generation_prompt=True,
        **card.special_tokens,
    )
    assert text == rendered


def test_a_tool_template_is_used_with_tools_alone() -> None:
    card = card_of("qwen")
    card.tool_chat_template = "with {{ tools | length }} tools"
    tokenizer = ModelTokenizer(card)
    chat, tools = conversation()
    assert len(tokenizer.encode_chat(chat, "chat", tools).token_ids) == len("with 1 tools")
    assert len(tokenizer.encode_chat(chat, "chat").token_ids) > 100


def test_thinking_is_asked_for_and_its_beginning_seen() -> None:
    tokenizer = ModelTokenizer(card_of("qwen"))
    chat = pb.Chat(messages=[pb.ChatMessage(role=pb.ROLE_USER, content="hi <think>")])
    assert not tokenizer.encode_chat(chat, "chat").starts_in_reasoning
    chat.enable_thinking = True
    assert tokenizer.encode_chat(chat, "chat").starts_in_reasoning
    card = card_of("qwen")
    card.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert not ModelTokenizer(card).encode_chat(chat, "chat").starts_in_reasoning


def test_formats_are_known_from_templates() -> None:
    found = {family: card_of(family).tool_format.name for family in FAMILIES}
    assert found == {
        "qwen": "hermes",
        "llama3": "llama3",
        "mistral": "mistral",
        "gemma": "json",
        "phi": "phi4",
    }
    assert detect_tool_format("{{ messages }}") is None
    assert detect_tool_format(QWEN + "<function=") is None
    assert detect_reasoning_format(QWEN, ()) == ReasoningFormat(start="<think>", end="</think>")
    assert detect_reasoning_format(GEMMA, ()) is None
    assert FORMATS["hermes"] == ToolFormat(name="hermes", start="<tool_call>", end="</tool_call>")


def refused(**spec: Any) -> list[str]:
    made = {"chat": pb.Chat(messages=[pb.ChatMessage(role=pb.ROLE_USER)])} | spec
    try:
        validation.check(rpc.GenerateRequest(spec=pb.GenerationSpec(**made)))
    except InvalidRequestError as error:
        return [violation.field for violation in error.violations]
    return []


def tool(**changes: Any) -> pb.Tool:
    return pb.Tool(**({"name": "f"} | changes))


def messages(*made: pb.ChatMessage) -> pb.Chat:
    return pb.Chat(messages=made)


CALL = pb.ToolCall(id="1", name="f", arguments_json="{}")


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"tools": [tool(name="")]}, "spec.tools[0].name"),
        ({"tools": [tool(name="a b")]}, "spec.tools[0].name"),
        ({"tools": [tool(name="x" * 65)]}, "spec.tools[0].name"),
        ({"tools": [tool(), tool()]}, "spec.tools[1].name"),
        ({"tools": [tool(name=f"f{i}") for i in range(129)]}, "spec.tools"),
        ({"tools": [tool(description="x" * 16385)]}, "spec.tools[0].description"),
        *(
            ({"tools": [tool(parameters_json_schema=text)]}, "spec.tools[0].parameters_json_schema")
            for text in (
                "{",
                "[]",
                '{"type": "array"}',
                '{"type": "objekt"}',
                '{"properties": []}',
                '{"properties": {"a": {"items": {"type": 3}}}}',
                '{"required": "a"}',
                '{"anyOf": [1]}',
                '{"a": NaN}',
                '{"a": 1e999}',
                '{"a": "\\ud800"}',
                '{"a":' * 65 + "1" + "}" * 65,
                json.dumps({"description": "x" * 65536}),
            )
        ),
        ({"tools": [tool()], "chat": None, "prompt": "x"}, "spec.tools"),
        (
            {"tools": [tool()], "response_format": pb.ResponseFormat(regex="a")},
            "spec.response_format",
        ),
        ({"tool_choice": pb.ToolChoice()}, "spec.tool_choice.choice"),
        ({"tool_choice": pb.ToolChoice(mode=0)}, "spec.tool_choice.mode"),
        ({"tool_choice": pb.ToolChoice(name="g"), "tools": [tool()]}, "spec.tool_choice.name"),
        (
            {"chat": messages(pb.ChatMessage(role=pb.ROLE_USER, tool_calls=[CALL]))},
            "spec.chat.messages[0].tool_calls",
        ),
        (
            {"chat": messages(pb.ChatMessage(role=pb.ROLE_USER, reasoning="x"))},
            "spec.chat.messages[0].reasoning",
        ),
        (
            {"chat": messages(pb.ChatMessage(role=pb.ROLE_TOOL, tool_call_id="1"))},
            "spec.chat.messages[0].tool_call_id",
        ),
        (
            {"chat": messages(pb.ChatMessage(role=pb.ROLE_USER, tool_call_id="1"))},
            "spec.chat.messages[0].tool_call_id",
        ),
        (
            {
                "chat": messages(
                    pb.ChatMessage(
                        role=pb.ROLE_ASSISTANT,
                        tool_calls=[pb.ToolCall(id="1", name="f", arguments_json="[1]")],
                    )
                )
            },
            "spec.chat.messages[0].tool_calls[0].arguments_json",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_field(spec: dict[str, Any], field: str) -> None:
    spec = {name: value for name, value in spec.items() if value is not None}
    if "prompt" in spec:
        spec["chat"] = None
    assert refused(**spec) == [field]


def test_a_whole_round_of_calls_is_taken() -> None:
    chat, tools = conversation()
    assert refused(chat=chat, tools=tools) == []
    none = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)
    assert refused(chat=chat, tools=[tool(), tool(name="g")], tool_choice=none) == []
    validation.check(model_service_pb2.TokenizeRequest(chat=chat, tools=tools))
    with pytest.raises(InvalidRequestError, match="needs chat input"):
        validation.check(model_service_pb2.TokenizeRequest(prompt="x", tools=tools))


def test_noncharacters_are_refused_wherever_they_hide() -> None:
    chat, tools = conversation()
    tools[0].parameters_json_schema = '{"description": "\\ufdd0"}'
    with pytest.raises(InvalidRequestError, match=r"tools\[0\].parameters_json_schema"):
        ModelTokenizer(card_of("qwen")).encode_chat(chat, "chat", tools)
