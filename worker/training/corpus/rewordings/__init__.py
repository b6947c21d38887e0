"""More wordings of what a user may want; the intents and their answers are elsewhere.

Which intent of a name a wording belongs to, its slots say: the first one that has them all.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from training.grammar import Intent, draw_slots, slots_of


def reworded(intents: Sequence[Intent], wordings: Mapping[str, Sequence[str]]) -> list[Intent]:
    """The intents, each with the further wordings that belong to it."""
    known = [(intent.name, draw_slots(random.Random(0), intent).keys()) for intent in intents]
    more: list[list[str]] = [[] for _ in intents]
    for name, templates in wordings.items():
        for template in templates:
            needed = slots_of(template)
            more[next(i for i, (n, has) in enumerate(known) if n == name and needed <= has)].append(
                template
            )
    return [
        replace(intent, user=[*intent.user, *extra])
        for intent, extra in zip(intents, more, strict=True)
    ]
