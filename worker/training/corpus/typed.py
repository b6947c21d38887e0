# ruff: noqa: E501  (templates read best on one line)
"""Tasks whose answer is data: commands as JSON actions, topics, hand-over, sentiment."""

import json
import random
from collections.abc import Sequence

from training.corpus import things
from training.grammar import Intent, Language, Slots, choose, fill

LABELS: dict[str, tuple[str, str]] = {
    "network": ("network", "网络"),
    "slow": ("network", "网络"),
    "refund": ("refund", "退款"),
    "return": ("return", "退货"),
    "delivery": ("delivery", "物流"),
    "password": ("password", "密码"),
    "invoice": ("invoice", "发票"),
    "screen": ("repair", "维修"),
    "battery": ("battery", "电池"),
    "billing": ("billing", "账单"),
    "cancellation": ("cancellation", "取消"),
    "hours": ("hours", "营业时间"),
    "human": ("human", "人工"),
    "product": ("product", "商品"),
    "address": ("address", "地址"),
    "unknown": ("other", "其他"),
    "greeting": ("greeting", "问候"),
    "thanks": ("thanks", "感谢"),
    "reminder": ("reminder", "提醒"),
    "weather": ("weather", "天气"),
    "music": ("music", "音乐"),
}
HANDOVER = {"human", "billing", "unknown"}
# What a customer may say to a desk: the topic, and whether a person must take over.
DESK: dict[str, tuple[str, bool]] = {
    **{
        name: (label, name in HANDOVER)
        for name, (label, _) in LABELS.items()
        if name not in ("reminder", "weather", "music")
    },
    **dict.fromkeys(
        ("who", "ability", "howareyou", "daytime", "bye", "praise"), ("greeting", False)
    ),
    "blame": ("human", True),
    **dict.fromkeys(
        ("joke", "story", "poem", "feeling", "happy", "reminder", "music", "weather", "device_on"),
        ("other", True),
    ),
}

_ACTION_SYSTEM = {
    "en": "[Turn|Convert|Translate|Change] the [command|message|request] [of the user|] into [a JSON action|an action as JSON|a typed action in JSON]. [Reply with JSON only.|Answer only with JSON.|]",
    "zh": "[把|请把|将][用户的|][指令|命令|请求|话][转换成|变成|转成|解析为][JSON动作|JSON格式的动作|动作，用JSON表示]。[只回答JSON。|只输出JSON。|]",
}
_LABEL_SYSTEM = {
    "en": "[Classify|Sort|Label] the [message|text|request] [of the customer|of the user|]. [Labels|Choose one of|Topics|Answer with one of]: {labels}.",
    "zh": "[请|][判断|分类|给出][用户的|顾客的|这条|][消息|问题|留言|文字][的类别|的主题|属于哪一类]。[可选|类别|标签|从中选一个]：{labels}。",
}
_DESK_SYSTEM = {
    "en": "[You are a customer-service desk.|You are the service desk of a shop.|You route messages of customers.|] [Reply with the topic and whether a person must take over, as JSON.|Give the topic and handover as JSON.]",
    "zh": "[你是客服台。|你是商店的客服台。|你负责分派顾客的消息。|][请用JSON回答主题和是否转人工。|用JSON给出topic和handover。]",
}
_REVIEWS: dict[str, dict[str, Sequence[str]]] = {
    "en": {
        "positive": (
            "[I love|I really like|I am very happy with] [this|the|my] {product}[.|!|, great quality.]",
            "[this|the] {product} is [great|excellent|wonderful|perfect|very good|amazing|fantastic][.|!|, thank you.]",
            "[great|excellent|good|fast] service, [I will come back|thank you|very friendly people|highly recommended].",
        ),
        "negative": (
            "[I hate|I am very unhappy with|I do not like|I regret buying] [this|the|my] {product}[.|!|, bad quality.]",
            "[this|the] {product} is [terrible|awful|bad|useless|poor|broken|a waste of money][.|!|, I am disappointed.]",
            "[terrible|awful|bad|slow] service, [never again|I am angry|nobody helped me|not recommended].",
        ),
    },
    "zh": {
        "positive": (
            "[这个|这款|]{product}[很好用|太棒了|质量很好|非常满意|我很喜欢|物超所值|值得推荐]"
            + "[。|！|，谢谢。]",
            "[服务很好|客服很热情|发货很快|态度很好]，[下次还来|非常满意|点赞|推荐大家]。",
        ),
        "negative": (
            "[这个|这款|]{product}[太差了|质量很差|不好用|非常失望|我不喜欢|浪费钱|用两天就坏了]"
            + "[。|！|，差评。]",
            "[服务很差|客服没人理|发货太慢|态度恶劣]，[再也不来了|非常失望|差评|不推荐]。",
        ),
    },
}
_SENTIMENT_SYSTEM = {
    "en": "[Is the text positive or negative?|Classify the sentiment as positive or negative.|Sentiment of the review: positive or negative.|Give the sentiment: positive or negative.]",
    "zh": "[请判断情感：正面或负面。|这段评价是正面还是负面？|判断情感倾向，回答正面或负面。]",
}
_SENTIMENT_ZH = {"positive": "正面", "negative": "负面"}


def action_answer(intent: Intent, slots: Slots) -> str:
    assert intent.action is not None
    return json.dumps(intent.action(slots), ensure_ascii=False)


def action_system(rng: random.Random, language: Language) -> str:
    return choose(rng, _ACTION_SYSTEM[language]).replace("  ", " ").strip()


def label_task(rng: random.Random, intent: Intent) -> tuple[str, str]:
    """A system message with labels to choose from, and the right one."""
    column = 0 if intent.language == "en" or rng.random() < 0.3 else 1
    right = LABELS[intent.name][column]
    others = sorted({pair[column] for pair in LABELS.values()} - {right})
    labels = [*rng.sample(others, rng.randint(1, 7)), right]
    rng.shuffle(labels)
    system = choose(rng, _LABEL_SYSTEM[intent.language])
    joined = rng.choice(("、", "，") if intent.language == "zh" else (", ",)).join(labels)
    return system.replace("  ", " ").replace("{labels}", joined), right


def desk_task(rng: random.Random, intent: Intent) -> tuple[str, str]:
    """A system message that asks for routing, and the routing."""
    answer = routing(LABELS[intent.name][0], intent.name in HANDOVER)
    return desk_system(rng, intent.language), answer


def desk_system(rng: random.Random, language: Language) -> str:
    return choose(rng, _DESK_SYSTEM[language]).strip()


def routing(topic: str, handover: bool) -> str:
    return json.dumps({"topic": topic, "handover": handover})


def sentiment_task(rng: random.Random, language: Language) -> tuple[str, str, str]:
    """A system message, a review and its sentiment."""
    label = rng.choice(("positive", "negative"))
    template = choose(rng, rng.choice(_REVIEWS[language][label]))
    product = things.zh_product(rng) if language == "zh" else things.en_product(rng)
    review = fill(template, {"product": product}, language)
    answer = label if language == "en" else _SENTIMENT_ZH[label]
    return choose(rng, _SENTIMENT_SYSTEM[language]), review, answer
