# ruff: noqa: E501  (templates read best on one line)
"""What the second stage adds: commands that nobody chats about, and who must hand over."""

import random
from dataclasses import replace

from training.corpus import assistant_zh, clocks, things
from training.corpus import slots as s
from training.corpus.assistant_zh import _typed
from training.grammar import Intent, Language, Slots, words
from training.noise import HANZI, junk_word


def _zh_duration(rng: random.Random) -> Slots:
    if rng.random() < 0.75:
        return clocks.zh_duration(rng)
    some = words("半小时 半个小时 一个半小时 两个半小时 一刻钟 半分钟 三刻钟 1个半小时")
    return {"duration": rng.choice(some)}


def _en_duration(rng: random.Random) -> Slots:
    if rng.random() < 0.75:
        return clocks.en_duration(rng)
    some = words(
        "half an hour|an hour|an hour and a half|a minute|one and a half hours|a quarter of an hour|two and a half hours"
    )
    return {"duration": rng.choice(some)}


def _zh_day(rng: random.Random) -> Slots:
    day = clocks.zh_day(rng)
    return {"day": "明天" if day == "明早" else day}


def _en_day(rng: random.Random) -> Slots:
    on_day, day = clocks.en_date(rng)
    return {"on_day": on_day, "day": day}


def _zh_soon(rng: random.Random) -> Slots:
    """A time of today or tomorrow, as it is said for short."""
    said, day, first, last = rng.choice(
        (
            ("今晚", "今天", 18, 23),
            ("今晚", "今天", 18, 23),
            ("明晚", "明天", 18, 23),
            ("今早", "今天", 5, 11),
            ("明早", "明天", 5, 11),
            ("今天中午", "今天", 12, 12),
            ("今天下午", "今天", 13, 18),
            ("明天下午", "明天", 13, 18),
        )
    )
    hour, minute = rng.randint(first, last), rng.choice((0, 0, 0, 30, 15, 45, 10, 20, 40, 50))
    number = clocks.zh_number if rng.random() < 0.5 else str
    shown = hour if hour <= 12 else hour - 12
    clock = ("两" if number is clocks.zh_number and shown == 2 else number(shown)) + "点"
    clock += "" if minute == 0 else "半" if minute == 30 else f"{number(minute)}分"
    when, time = said + clock, f"{hour:02d}:{minute:02d}"
    return {"when_u": when, "when": when, "day": day, "time": time, "clock": clock}


_ZH_TASK = s.one_of(s.zh_task, things.zh_task)
_ZH_CANCEL = "[取消|删除|删掉|撤销|去掉|清除|关掉]"
_ZH_PLEASE = "[帮我|请|请帮我|麻烦|麻烦你|你好，|小助手，|||||]"
_EN_CANCEL = "[cancel|delete|remove|drop|clear|get rid of]"
_EN_PLEASE = "[please|can you|could you|could you please|hey,|would you||||||]"
_CANCELLED_ZH = ["[好的，|没问题，|]已经[取消|删除]了。"]
_CANCELLED_EN = ["[Okay,|Sure,|Done,] it [is canceled|has been canceled|is deleted]."]


def _cancel_zh(action: str, noun: str) -> list[Intent]:
    timed = [
        _ZH_PLEASE + _ZH_CANCEL + "[一下|掉|]{when_u}的" + noun + "[。|吧。|，谢谢。|，好吗？|]",
        _ZH_PLEASE + "[把|将]{when_u}的" + noun + _ZH_CANCEL + "[了吧|吧|了|掉|][。|]",
        "{when_u}的" + noun + "[不要了|不用了|不需要了|算了]，" + _ZH_CANCEL + "[吧|它|掉|][。|]",
        "{when_u}[不用|别|不要|不必]"
        + ("提醒我" if "提醒" in noun else "叫我")
        + "了[。|，谢谢。|]",
    ]
    dated = [template.replace("{when_u}", "{day}") for template in timed]
    bare = [
        _ZH_PLEASE
        + _ZH_CANCEL
        + "[一下|掉|][这个|那个|刚才的|刚才那个|上一个|刚设的|我的|]"
        + noun
        + "[。|吧。|，谢谢。|]",
        _ZH_PLEASE
        + "[把|将][这个|那个|刚才的|刚才那个|上一个|刚设的|我的|]"
        + noun
        + _ZH_CANCEL
        + "[了|了吧|吧|掉][。|]",
        "[这个|那个|刚才那个|]"
        + noun
        + "[不要了|不用了|不需要了|算了|作废吧|用不着了][，取消吧|，麻烦取消|，删了吧|，帮我取消||][。|]",
        ("[不用|别|不要|不必]提醒[我|]了" if "提醒" in noun else "[不用|别|不要|不必]叫[我|]了")
        + "[，取消吧|，谢谢|，算了||][。|]",
    ]
    return [
        Intent(
            action,
            "zh",
            timed,
            _CANCELLED_ZH,
            {"when": clocks.zh_when},
            (),
            _typed(action, day="$day", time="$time"),
        ),
        Intent(
            action,
            "zh",
            dated,
            _CANCELLED_ZH,
            {"day": _zh_day},
            (),
            _typed(action, day="$day"),
            0.4,
        ),
        Intent(action, "zh", bare, _CANCELLED_ZH, {}, (), _typed(action), 0.9),
    ]


def _cancel_en(action: str, noun: str) -> list[Intent]:
    timed = [
        _EN_PLEASE
        + " "
        + _EN_CANCEL
        + " [my|the|that] "
        + noun
        + " [for {when}|{at_when}][.|, please.|]",
        "[I don't|I do not] need [the|my|that] "
        + noun
        + " [for {when}|{at_when}] [any more|anymore|any longer|]"
        + "[.|, cancel it.|, delete it.]",
    ]
    dated = [
        _EN_PLEASE
        + " "
        + _EN_CANCEL
        + " [my|the|that] "
        + noun
        + " [for {day}|{on_day}][.|, please.|]",
        _EN_PLEASE + " " + _EN_CANCEL + " {day}'s " + noun + "[.|, please.|]",
    ]
    bare = [
        _EN_PLEASE
        + " "
        + _EN_CANCEL
        + " [my|the|that|this|my last|the last] "
        + noun
        + "[.|, please.|]",
        "[I don't|I do not|I no longer] need [the|my|that|this] "
        + noun
        + " [any more|anymore|any longer|]"
        + "[.|, cancel it.|, please cancel it.|, delete it.]",
        "[forget|never mind|forget about|skip] [the|my|that] " + noun + "[.|, please.|]",
    ]
    return [
        Intent(
            action,
            "en",
            timed,
            _CANCELLED_EN,
            {"when": clocks.en_when},
            (),
            _typed(action, day="$day", time="$time"),
        ),
        Intent(
            action,
            "en",
            dated,
            _CANCELLED_EN,
            {"day": _en_day},
            (),
            _typed(action, day="$day"),
            0.4,
        ),
        Intent(action, "en", bare, _CANCELLED_EN, {}, (), _typed(action), 0.9),
    ]


# Without a time there is nothing to set; whoever asked has to say when.
_UNTIMED = [
    Intent(
        "reminder",
        "zh",
        [
            "[请|帮我|记得|别忘了|到时候|麻烦|][提醒我|提醒我一下|叫我|通知我]{task}[。|，谢谢。|吧。|]",
            _ZH_PLEASE + "[设|设置|设一个|加一个|定一个]{task}的提醒[。|]",
        ],
        ["[请问|好的，]什么时候提醒您{task}？"],
        {"task": _ZH_TASK},
        (),
        _typed("set_reminder", text="$task"),
        1.2,
    ),
    Intent(
        "reminder",
        "zh",
        [
            "[请|帮我|记得|]{day}[提醒我|记得提醒我|叫我]{task}[。|，谢谢。|]",
            "[请|麻烦你|记得|][提醒我]{day}{task}[。|]",
        ],
        ["[请问|好的，]{day}几点提醒您{task}？"],
        {"day": _zh_day, "task": _ZH_TASK},
        (),
        _typed("set_reminder", day="$day", text="$task"),
        1.2,
    ),
    Intent(
        "reminder",
        "zh",
        [
            "[请|帮我|记得|到时候|麻烦|给我|][提醒我|提醒我一下|设个提醒|设置提醒|定个提醒|来个提醒|加一个提醒][。|吧。|]"
        ],
        ["[请问|好的，]什么时候提醒您？"],
        {},
        (),
        _typed("set_reminder"),
        0.4,
    ),
    Intent(
        "reminder",
        "en",
        [
            "[remind me|please remind me|can you remind me|don't let me forget] to {task}[.|, please.|]",
            "[set|create|add|make] a reminder to {task}[.|, please.|]",
        ],
        ["When shall I remind you to {task_you}?"],
        {"task": things.en_task_slots},
        (),
        _typed("set_reminder", text="$task"),
        1.2,
    ),
    Intent(
        "reminder",
        "en",
        [
            "[remind me|please remind me|can you remind me] to {task} {on_day}[.|, please.|]",
            "[remind me|please remind me] {on_day} to {task}[.|, please.|]",
        ],
        ["At what time shall I remind you to {task_you}?"],
        {"day": _en_day, "task": things.en_task_slots},
        (),
        _typed("set_reminder", day="$day", text="$task"),
        1.2,
    ),
    Intent(
        "reminder",
        "en",
        [
            "[remind me|please remind me|set a reminder|add a reminder|I need a reminder|a reminder][.|, please.|]"
        ],
        ["When shall I remind you?"],
        {},
        (),
        _typed("set_reminder"),
        0.4,
    ),
    Intent(
        "alarm",
        "zh",
        [_ZH_PLEASE + "[设个闹钟|定闹钟|设一个闹钟|叫我起床|定个闹钟|上闹钟][。|吧。|]"],
        ["[请问|好的，]几点叫您？"],
        {},
        (),
        _typed("set_alarm"),
        0.3,
    ),
    Intent(
        "alarm",
        "en",
        [_EN_PLEASE + " [set an alarm|wake me up|wake me|set my alarm][.|, please.|]"],
        ["At what time shall I wake you?"],
        {},
        (),
        _typed("set_alarm"),
        0.3,
    ),
]
_TIMED = [
    Intent(
        "timer",
        "zh",
        [
            "[请|麻烦|帮我|]{duration}[后|之后|以后|过后][提醒我|叫我|记得提醒我|喊我|通知我]{task}[。|，谢谢。|]",
            "[过|再过|等]{duration}[提醒我|叫我|喊我|通知我]{task}[。|，谢谢。|]",
            "[提醒我|请提醒我]{duration}[后|之后|以后]{task}[。|]",
        ],
        ["[好的，|没问题，]{duration}后我会提醒您{task}。"],
        {"duration": _zh_duration, "task": _ZH_TASK},
        (),
        _typed("set_timer", duration="$duration", text="$task"),
        1.6,
    ),
    Intent(
        "timer",
        "zh",
        [
            _ZH_PLEASE
            + "[设|定|开|来|来个|设个|开始|设一个]{duration}的[倒计时|计时|计时器|定时器][。|吧。|]",
            "{duration}[后|以后|之后][叫我|提醒我|告诉我][。|一声。|]",
        ],
        ["[好的，|没问题，]{duration}的计时开始了。"],
        {"duration": _zh_duration},
        (),
        _typed("set_timer", duration="$duration"),
        0.8,
    ),
    Intent(
        "timer",
        "en",
        [
            "[remind me|please remind me|can you remind me] in {duration} to {task}[.|, please.|]",
            "[remind me|please remind me|can you remind me|tell me] to {task} in {duration}[.|, please.|]",
            "in {duration} [remind me|tell me] to {task}[.|, please.|]",
        ],
        ["[Okay,|Sure,] I will remind you to {task_you} in {duration}."],
        {"duration": _en_duration, "task": things.en_task_slots},
        (),
        _typed("set_timer", duration="$duration", text="$task"),
        1.6,
    ),
    Intent(
        "timer",
        "en",
        [
            _EN_PLEASE
            + " [set|start|create] a [timer for|timer of|countdown of] {duration}[.|, please.|]",
            "[count down|tell me in|wake me in|let me know in] {duration}[.|, please.|]",
        ],
        ["[Okay,|Sure,] a timer for {duration} is running."],
        {"duration": _en_duration},
        (),
        _typed("set_timer", duration="$duration"),
        0.8,
    ),
]
_CLOCK = [
    Intent(
        "clock",
        "zh",
        [
            "[请问|你好，|帮我看看|告诉我|麻烦问一下|那||||][现在|这会儿|现在是|当前|目前是|眼下][几点|几点了|几点钟|几点钟了|什么时间|什么时候了|的时间|几点几分][？|了？|呀？|啊？|。|]",
            "[告诉我|看一下|看看|查一下|报一下|我想知道|帮我看一下][现在的|当前的|][时间|钟点][。|吧。|，谢谢。|]",
            "[请问|][今天|今天是|现在][几号|几月几号|星期几|周几|什么日子|哪一天|礼拜几][？|呀？|啊？|]",
            "[几点了|几点啦|什么时间了|现在时间|到几点了][？|]",
        ],
        ["[抱歉，|]我没有时钟，请看一下您的手机。"],
        {},
        (),
        _typed("tell_time"),
        1.3,
    ),
    Intent(
        "clock",
        "en",
        [
            "[what time is it|what's the time|what is the time|what time do we have|how late is it] [now|right now|]?",
            "[can you|could you|please|would you|] [tell me|give me|say|show me] [the time|what time it is|the current time][.|?|, please.|]",
            "[do you have the time|do you know what time it is|have you got the time][?|, please?]",
            "[what day is it|what is today's date|what's the date|what day is today|which day of the week is it|what is the date today] [today|]?",
        ],
        ["[Sorry,|I'm afraid] I have no clock, so please look at your phone."],
        {},
        (),
        _typed("tell_time"),
        1.3,
    ),
]

_SOON = [
    replace(intent, slots={**intent.slots, "when": _zh_soon}, weight=intent.weight * 0.25)
    for intent in assistant_zh.INTENTS
    if intent.name in ("reminder", "alarm")
]

TASK_INTENTS: tuple[Intent, ...] = tuple(
    replace(intent, weight=intent.weight * 1.5)
    for intent in (
        *_cancel_zh("cancel_reminder", "[提醒|提醒|提醒事项|备忘]"),
        *_cancel_zh("cancel_alarm", "[闹钟|闹钟|闹铃]"),
        *_cancel_en("cancel_reminder", "reminder"),
        *_cancel_en("cancel_alarm", "[alarm|alarm|wake-up call]"),
        *_UNTIMED,
        *_TIMED,
        *_CLOCK,
        *_SOON,
    )
)

# A customer whose question was answered and who is no further: a person must take over.
ESCALATIONS: dict[Language, tuple[str, ...]] = {
    "zh": (
        "[还是|依然|仍然][不行|没用|没有解决|不好使|一样|有问题][。|啊。|，怎么办？|]",
        "[试过了|都试了|按你说的做了|照做了|重启过了]，[还是不行|没有用|问题还在|没有变化][。|]",
        "[你没听懂|你没明白我的意思|答非所问|我问的不是这个|你在说什么][。|！|]",
        "[都第几次了|等了好久了|我很生气|太让人失望了]，[能不能解决|没人管吗|到底怎么办][？|！]",
    ),
    "en": (
        "[it|that|this] [still does not work|does not help|did not help|doesn't help|changes nothing|still doesn't work|did not work][.|!|]",
        "I [tried|did] [that|all that|everything|it already|what you said] [and it still does not work|but it did not help|and nothing has changed|, no luck|without success][.|]",
        "[you did not understand|that was not my question|you don't get it|that is not what I asked|what are you talking about][.|!|]",
        "[I am angry|this takes too long|this is the third time|I am losing my patience], [can nobody help|who can fix this|what now][?|!]",
    ),
}


def nonsense(rng: random.Random, language: Language) -> str:
    """Words that mean nothing together."""
    if language == "zh":
        return "".join(rng.choice(HANZI) for _ in range(rng.randint(3, 12)))
    return " ".join(junk_word(rng, "en") for _ in range(rng.randint(2, 6)))
