"""Chat templates give the text that transformers gives, within bounds."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from miao_service import chat_template
from miao_service.chat_template import ChatTemplate, ChatTemplateError

USER = {"role": "user", "content": "Hi <b> & 你好 'x'\n"}
ASSISTANT = {"role": "assistant", "content": "  Hello there \n\n"}
SYSTEM = {"role": "system", "content": "Be kind."}
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ASSISTANT, USER], [SYSTEM, USER, ASSISTANT, USER]]

TEMPLATES = {
    "chatml": """{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{% endif %}""",
    "llama2": """{% if messages[0]['role'] == 'system' %}
{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}
{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}
{% for message in loop_messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if loop.index0 == 0 and system_message != false %}
{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}
{% else %}{% set content = message['content'] %}{% endif %}
{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}
{% endfor %}""",
    "namespace and macros": """{%- set ns = namespace(found=false, count=0) -%}
{%- macro part(m) -%}{{ m.role | upper }}={{ m.content | trim | tojson }};{%- endmacro -%}
{%- for m in messages -%}{%- if m.role == 'system' -%}{%- set ns.found = true -%}
{%- continue -%}{%- endif -%}{%- set ns.count = ns.count + 1 -%}{{ part(m) }}{%- endfor -%}
{{ ns.found }}/{{ ns.count }}{{ dict(a=1) | tojson(indent=2) }}{{ tools is none }}{{ documents }}
""",
    "generation tag": """{% for m in messages %}{% if m.role == 'assistant' %}
{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}
{% else %}{{ m.role }}: {{ m.content }}
{% endif %}{% endfor %}""",
    "slices and tests": """{{ messages[-1].content.split(' ')[0] }}{{ messages[::-1] | length }}
{%- for m in messages if m.content is string %}{{ loop.last }}{{ m['content'][:3] * 2 }}{% break %}
{%- endfor %}{{ undefined_name is defined }}{{ strftime_now('%Y') | length }}""",
}


def by_transformers(template: str, conversation: list[dict[str, str]]) -> str:
    transformers: Any = pytest.importorskip("transformers.utils.chat_template_utils")
    rendered, _ = transformers.render_jinja_template(
        [conversation],
        chat_template=template,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    return str(rendered[0])


@pytest.mark.parametrize(
    ("name", "conversation"), list(itertools.product(TEMPLATES, CONVERSATIONS)), ids=str
)
def test_a_conversation_is_rendered_as_transformers_does(
    name: str, conversation: list[dict[str, str]]
) -> None:
    template = ChatTemplate(TEMPLATES[name], {"bos_token": "<s>", "eos_token": "</s>"})
    assert template.render(conversation) == by_transformers(TEMPLATES[name], conversation)


def test_what_a_template_refuses_is_said() -> None:
    template = ChatTemplate(TEMPLATES["llama2"], {"bos_token": "<s>", "eos_token": "</s>"})
    with pytest.raises(ChatTemplateError, match="must alternate"):
        template.render([USER, USER])


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ messages[0].nothing.more }}",
        "{{ messages[5].role }}",
        "{{ 1 / 0 }}",
        "{{ messages.append(1) }}",
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{% set ns = namespace(__class__=1) %}{% set ns.__init__ = 2 %}",
        "{% include 'file' %}",
    ],
)
def test_what_a_template_must_not_do_ends_in_an_error(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        ChatTemplate(source, {}).render([USER])


def test_a_template_that_writes_or_works_too_long_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endless = (
        "{% for i in range(90000) %}{% for j in range(90000) %}{{ 'x' * 100 }}{% endfor %}"
        "{% endfor %}"
    )
    with pytest.raises(ChatTemplateError, match="too long"):
        ChatTemplate(endless, {}).render([USER])
    monkeypatch.setattr(chat_template, "MAX_RENDER_SECONDS", 0.05)
    with pytest.raises(ChatTemplateError, match="takes too long"):
        ChatTemplate(endless, {}).render([USER])
