"""What the assistant asks where it may not act."""

from __future__ import annotations

from miao_client.examples.language import Language

_QUESTIONS: dict[str, tuple[str, str]] = {
    "empty": ("请说出您要我做什么。", "Please say what I should do."),
    "too_long": ("这句话太长了，请说得短一些。", "That is too long; please say it in fewer words."),
    "unsure": (
        "我不确定您的意思，什么也没做。请换个说法。",
        "I am not sure what you mean, so I did nothing. Please say it in another way.",
    ),
    "no_time": ("请问几点？", "At what time?"),
    "no_duration": ("请问多长时间？", "For how long?"),
    "no_level": ("请问调到多少？", "To which number?"),
    "no_text": ("请问内容是什么？", "What should it say?"),
    "no_who": ("请问是谁？", "Whom do you mean?"),
    "no_what": ("请问要播放什么？", "What should I play?"),
    "no_device": ("请问是哪个设备？", "Which device do you mean?"),
    "no_place": ("请问是哪个地方？", "Which place do you mean?"),
    "no_item": ("请问要加什么？", "What should I put on the list?"),
    "no_to": ("请问去哪里？", "Where to?"),
    "which_half": ("“{0}”是上午还是下午？", 'Is "{0}" in the morning or after noon?'),
    "which_day_or_time": (
        "“{0}”我不能确定是哪一天、几点，请说出准确的日期和时间。",
        'I cannot tell which day or time "{0}" is; please give the exact one.',
    ),
    "passed": (
        "“{0}”已经过去了，请说另一个时间。",
        '"{0}" has passed already; please give another time.',
    ),
}
REASONS = tuple(_QUESTIONS)


def question(reason: str, language: Language, detail: str = "") -> str:
    """The question for a reason, with the words that it is about."""
    return _QUESTIONS[reason][language == "en"].format(detail)
