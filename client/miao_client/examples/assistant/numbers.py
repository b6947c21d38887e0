"""Numbers as people write them: digits, Chinese numerals, English words."""

from __future__ import annotations

_HAN = {character: value for value, character in enumerate("零一二三四五六七八九")} | {
    "〇": 0,
    "两": 2,
}
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_ENGLISH = {word: value for value, word in enumerate(_WORDS.split())} | {
    "twenty": 20,
    "thirty": 30,
    "forty": 40,
    "fifty": 50,
    "a": 1,
    "an": 1,
}

HAN_NUMBER = r"(?:\d{1,4}|[零〇一二两三四五六七八九十]{1,4})"
_TENS = "twenty|thirty|forty|fifty"
_ONES = "one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
ENGLISH_NUMBER = rf"(?:\d{{1,4}}|(?:{_TENS})(?:[ -](?:{_ONES}))?|{_TEENS}|{_ONES})"


def han_number(text: str) -> int:
    """The value of digits or of a Chinese numeral below a hundred."""
    if text.isdigit():
        return int(text)
    if "十" in text:
        tens, _, ones = text.partition("十")
        return (han_number(tens) if tens else 1) * 10 + (han_number(ones) if ones else 0)
    value = 0
    for character in text:
        value = value * 10 + _HAN[character]
    return value


def english_number(text: str) -> int:
    """The value of digits or of English words below sixty."""
    if text.isdigit():
        return int(text)
    return sum(_ENGLISH[word] for word in text.lower().replace("-", " ").split())
