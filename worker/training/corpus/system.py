# ruff: noqa: E501  (templates read best on one line)
"""System messages: who the assistant is said to be. The answers do not depend on them."""

import random

from training.corpus import slots as s
from training.grammar import Language, choose, tidy

_EN = (
    "You are [a|the|] [helpful|friendly|polite|kind|careful|professional|] [assistant|customer-service agent|support agent|home assistant|voice assistant|writing assistant|chatbot|service desk|AI assistant] [of {company}|for {company}|of a phone company|of an online shop||||]. [Answer briefly.|Be polite.|Keep your answers short.|Always answer in the language of the user.|Help the user.|Be concise and friendly.|||]",
    "[Answer the user.|Help the customer.|Reply in one or two sentences.|Be helpful.|You help customers of {company}.|Continue the text of the user.]",
)
_ZH = (
    "你是[一个|一位|{company}的|我们的|][热心的|友好的|专业的|有礼貌的|][助手|客服|客服助手|智能助手|语音助手|写作助手|人工智能助手|家庭助手]。[请简短回答。|请礼貌回答。|回答要简洁。|请用用户的语言回答。|请帮助用户。|||]",
    "[请回答用户的问题。|请帮助顾客。|用一两句话回答。|请续写用户的文字。|你为{company}的顾客服务。]",
)


def system_message(rng: random.Random, language: Language) -> str:
    """A system message, now and then in the other language."""
    if rng.random() < 0.15:
        language = "en" if language == "zh" else "zh"
    template = choose(rng, rng.choice(_EN if language == "en" else _ZH))
    name = s.company(rng) if language == "en" else s.zh_company(rng)
    return tidy(template.replace("{company}", name), language)
