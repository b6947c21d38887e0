"""In which of its two languages an application answers."""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["zh", "en"]
_HAN = re.compile(r"[\u4e00-\u9fff]")


def language_of(text: str) -> Language:
    """Chinese where there is a Chinese character, else English."""
    return "zh" if _HAN.search(text) else "en"
