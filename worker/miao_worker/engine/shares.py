"""How tenants divide what an engine has: rows of the batch, and a step's tokens.

Max-min fairness by weight: nobody has less so that somebody who has more can have
still more, and what one does not need goes to the others. Knows no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Items

from miao_worker.engine.sequence import Sequence


def divide(amount: int, demands: Mapping[str, int], weights: Mapping[str, float]) -> dict[str, int]:
    """Divide an amount among demands; the parts come to all of it, or to all demands.

    What cannot be divided goes to the demands that come first.
    """
    parts = dict.fromkeys(demands, 0)
    hungry = [tenant for tenant, demand in demands.items() if demand]
    while amount and hungry:
        total = sum(weights[tenant] for tenant in hungry)
        left = amount
        for tenant in hungry:
            share = max(1, int(amount * weights[tenant] / total))
            part = min(left, share, demands[tenant] - parts[tenant])
            parts[tenant] += part
            left -= part
        amount = left
        hungry = [tenant for tenant in hungry if parts[tenant] < demands[tenant]]
    return parts


def by_rank(running: Iterable[Sequence]) -> list[Sequence]:
    """Sequences in the order in which they may keep their rows; the last gives way first.

    The k-th of its tenant, by arrival, stands at k divided by the tenant's weight. With
    one tenant it is the order of arrival.
    """
    counts: Counter[str] = Counter()
    ranks = []
    for place, sequence in enumerate(running):
        counts[sequence.tenant] += 1
        ranks.append((counts[sequence.tenant] / sequence.weight, place, sequence))
    if len(counts) < 2:
        return [sequence for _, _, sequence in ranks]
    ranks.sort(key=lambda rank: rank[:2])
    return [sequence for _, _, sequence in ranks]


def may_take_from(taker: tuple[int, float], giver: tuple[int, float]) -> bool:
    """Whether a row may go from one tenant to another; each is its rows and its weight.

    Only as far as the giver then has no less than the taker: so no row goes back and forth.
    """
    return (giver[0] - 1) / giver[1] >= (taker[0] + 1) / taker[1]


def barred(held: Items[tuple[str, float]], capacity: int) -> list[str] | None:
    """The tenants for whom there is no room beside what is held, a tenant and weight for each row.

    None where there is no room for anybody. A full batch takes in those who would get
    a row of somebody who has more, until it holds twice what it can run.
    """
    if len(held) < capacity:
        return []
    if len(held) >= 2 * capacity:
        return None
    rows = Counter(tenant for tenant, _ in held)
    weights = dict(held)
    givers = [(rows[tenant], weights[tenant]) for tenant in rows]
    if not any(may_take_from((0, 1.0), giver) for giver in givers):
        return None
    return [
        tenant
        for tenant in rows
        if not any(may_take_from((rows[tenant], weights[tenant]), giver) for giver in givers)
    ]
