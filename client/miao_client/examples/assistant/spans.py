"""Which stretches of a command the model may copy into a field: any, or only likely ones.

A likely one begins and ends at a mark, at a moment, or at a word that commands are built with,
as in "remind me to … at …". Chinese shows no words, so that a small model that is free to stop
anywhere may stop within one; the likely stretches are a second opinion.
"""

from __future__ import annotations

import itertools
import json
import re

from miao_client.examples.assistant import chinese, english
from miao_client.examples.language import language_of

_MAX_SPANS = 900
_CHINESE_CUES = re.compile(
    r"提醒事项|提醒|备忘|叫[我醒]|喊|通知|告诉|记[得着住下到]?|别忘了?|忘[记了]|时候|一声|一下|知道"
    r"|请|帮|麻烦|谢谢|拜托|劳驾|可以|能|不能|不要|不用|需要|我[想要得]|要|得|去|来|在|到|把|将|给|让"
    r"|替|跟|和|向|往|从|对|发(?:短信|消息|信息|微信)|短信|消息|信息|微信|[通回]?[个]?电话|视频|打|拨号?"
    r"|联系|转告|捎|说|问|写|找|[打拉]开|开启?|关[掉上闭]?|启动|停|调[到成高低至]?|设[置定为到成]?|换成"
    r"|升|降|弄|播[放报]?|放|听|唱|点播|整|随便|喜欢|希望|温度|[一两几][个首曲段张支些点台盏下遍]"
    r"|[个首曲些点]|购物|采购|清单|单子|单上|列表|加[到进入上]?|添|缺|补|用完|买|导航|怎么走|路线|带我"
    r"|打车|开车|走路|翻译|用|英[语文国]|中文|汉语|怎么|怎样|如何|什么|天气|气温|下雨|下雪|冷|热|多少|几度"
    r"|有没有|没有|会不会|会(?=[下冷热变降有])|玩|出差|准备|日程|日历|行程|安排|[的了吧呢吗呀啊哦嘛呗也都先再这那就该]"
    r"|我|你|您|它|现在|马上|已经|之?后|[，。！？、：；,.!?:;“”\"'（）() ]+"
)
_ENGLISH_CUES = re.compile(
    r"\b(?:to|that|about|of|for|on|at|in|me|i|you|please|can|could|would|will|is|are|my|saying|know"
    r"|remind|reminder|set|text|tell|call|phone|ring|message|send|write|play|put|add|turn|switch|off"
    r"|weather|forecast|like|what|what's|how|have|need|want|must|should|there|so|then|and|the|a|an|some"
    r"|alarm|timer|navigate|directions|take|go|translate|word|say|into|list|shopping|calendar|from)\b"
    r"|[,.!?:;\"() ]*[,.!?:;\"()][,.!?:;\"() ]*",
    re.IGNORECASE,
)
_TRIMMED = " ，。！？、：；,.!?:;"


def any_stretch(command: str) -> str:
    """The grammar's expression for any stretch: of words, or else of characters."""
    plain = _without_quotes(command)
    how = "substring_words" if language_of(plain) == "en" else "substring_chars"
    return f"%regex {json.dumps({how: plain}, ensure_ascii=False)}"


def likely_stretch(command: str) -> str:
    """The grammar's expression for one of `spans`."""
    found = spans(_without_quotes(command))
    return "/" + "|".join(re.escape(span).replace("/", r"\/") for span in found) + "/"


def spans(command: str) -> tuple[str, ...]:
    """The likely stretches of a command, short ones first."""
    is_chinese = language_of(command) == "zh"
    cues, moments = (
        (_CHINESE_CUES, chinese.MOMENTS) if is_chinese else (_ENGLISH_CUES, english.MOMENTS)
    )
    edges = {0, len(command)}
    for pattern in (cues, *moments):
        for match in pattern.finditer(command):
            edges |= {match.start(), match.end()}
    pairs = itertools.combinations(sorted(edges), 2)
    found = (command[start:end].strip(_TRIMMED) for start, end in pairs)
    return tuple(sorted({span for span in found if span}, key=lambda s: (len(s), s))[:_MAX_SPANS])


def _without_quotes(command: str) -> str:
    """What would have to be escaped in JSON is left out."""
    return "".join(" " if c in '"\\' or not c.isprintable() else c for c in command)
